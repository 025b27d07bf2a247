"""A model fits its name or is refused: sizes of the original pass, tensors come from the file."""

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, GPT2Config, LlamaConfig

from gmail_kedro.models.encoders.known_encoders import ENCODERS, build_encoder
from gmail_kedro.models.encoders.vision_only import load_synclr
from gmail_kedro.models.strict_loading import (
    clip_sizes,
    clip_vision_sizes,
    language_sizes,
    load_file_strictly,
    load_strictly,
    named_clip_sizes,
    read_state_dict,
    refuse_other_sizes,
)
from gmail_kedro.models.vision_language.known_vision_language_models import VISION_LANGUAGE_MODELS
from gmail_kedro.models.vision_language.language_models import LANGUAGE_MODELS
from gmail_kedro.models.weight_sources import MissingWeightsError, find_checkpoint

from .tiny import save_synclr

GPT2_LARGE = GPT2Config(n_embd=1280, n_layer=36)
LLAMA_2 = LlamaConfig(hidden_size=4096, num_hidden_layers=32, intermediate_size=11008)


def test_every_name_but_the_minis_promises_its_sizes():
    clips = [spec for spec in ENCODERS.values() if not spec.packaged and spec.load is not load_synclr]
    assert len(clips) >= 10 and all(len(named_clip_sizes(spec.architecture)) == 13 for spec in clips)
    assert all(spec.architecture for spec in ENCODERS.values() if not spec.packaged)
    assert all((spec.sizes is None) == bool(spec.packaged) for spec in LANGUAGE_MODELS.values())
    whole = [spec for spec in VISION_LANGUAGE_MODELS.values() if spec.hub_id]
    assert len(whole) == 3 and all(spec.sizes and spec.tower for spec in whole)


def test_a_clip_of_the_same_sizes_may_differ_in_its_activation_only():
    quick, plain = (open_clip.get_model_config(name) for name in ("ViT-L-14-quickgelu", "ViT-L-14"))
    refuse_other_sizes("clip_vit_l_14", "here", found=clip_sizes(plain), promised=clip_sizes(quick))
    other = open_clip.get_model_config("ViT-L-14-336-quickgelu")
    with pytest.raises(
        MissingWeightsError, match=r"in here is not 'clip_vit_l_14'.* 1 of its .*image_size 336 instead of"
    ):
        refuse_other_sizes("clip_vit_l_14", "here", found=clip_sizes(other), promised=clip_sizes(quick))


def test_transformers_tower_is_held_against_open_clips_facts():
    promised = named_clip_sizes("ViT-L-14-336-quickgelu")
    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    refuse_other_sizes("x", "here", found=clip_vision_sizes(config, 768), promised=promised)
    with pytest.raises(MissingWeightsError, match="embed_dim 512 instead of 768"):
        refuse_other_sizes("x", "here", found=clip_vision_sizes(config, 512), promised=promised)
    refuse_other_sizes("x", "here", found=clip_vision_sizes(config), promised=promised)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("gpt2", GPT2Config(), ""),
        (
            "gpt2",
            GPT2_LARGE,
            "2 of its sizes differ .hidden_size 1280 instead of 768, num_hidden_layers 36 instead of 12",
        ),
        ("gpt2", LLAMA_2, "model_type llama instead of gpt2"),
        ("vicuna_7b", LLAMA_2, ""),
        ("llama_3_8b", LLAMA_2, "1 of its sizes differ .intermediate_size 11008 instead of 14336"),
    ],
)
def test_language_models(name, config, words):
    promised = LANGUAGE_MODELS[name].sizes
    if not words:
        refuse_other_sizes(name, "here", found=language_sizes(config), promised=promised)
        return
    with pytest.raises(MissingWeightsError, match=words):
        refuse_other_sizes(name, "here", found=language_sizes(config), promised=promised)


def test_a_mini_name_promises_nothing():
    assert named_clip_sizes("") == {}


CPU = torch.device("cpu")


class Runs:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 1}, lambda s: {"model": s}])
def test_wrappers_and_prefixes_come_off(tmp_path, wrap):
    torch.save(wrap({"module._orig_mod.a": torch.ones(2, dtype=torch.float16)}), tmp_path / "x.pt")
    state = read_state_dict("x", tmp_path / "x.pt")
    assert list(state) == ["a"] and state["a"].dtype == torch.float32


def test_code_in_a_pickle_does_not_run(tmp_path, capsys):
    torch.save({"a": Runs()}, tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="'x' could not be loaded from"):
        read_state_dict("x", tmp_path / "x.pt")
    assert "ran" not in capsys.readouterr().out


def test_something_else_than_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="expected a dictionary of tensors, got list"):
        read_state_dict("x", tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="which is not there"):
        read_state_dict("x", tmp_path / "y.pt")


def test_misfits_are_counted_and_listed():
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(4)))
    state = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(2), "extra": torch.ones(1)}
    with pytest.raises(
        MissingWeightsError,
        match=r"6 of 8 tensors missing \(1.bias, 1.weight, 2.bias, ...\), 1 unexpected \(extra\), "
        r"1 of another shape \(0.weight \[3, 2\] instead of \[2, 2\]\). Give the whole weights of this model",
    ):
        load_strictly("x", model, state, source="here")


def test_a_folder_leads_to_its_one_checkpoint(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no .safetensors or .pt file is there"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))
    torch.save({}, tmp_path / "b.pt")
    assert find_checkpoint("x", tmp_path, (".safetensors", ".pt")).name == "b.pt"
    torch.save({}, tmp_path / "c.pt")
    with pytest.raises(MissingWeightsError, match="holds several: b.pt, c.pt"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))
    torch.save({}, tmp_path / "own.pt")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert find_checkpoint("x", tmp_path, (".safetensors", ".pt"), own="own").name == "own.pt"
    (tmp_path / "own.pt").write_bytes((tmp_path / "own.pt").read_bytes()[:100])
    with pytest.raises(MissingWeightsError, match="own.pt is damaged or cut short"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"), own="own")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_a_wrapper_are_called_so(prefix):
    model = torch.nn.Linear(2, 2)
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(
        MissingWeightsError, match=r"2 of 2 tensors missing .*2 unexpected .*take module. or _orig_mod."
    ):
        load_strictly("x", model, state, source="here")


def test_a_file_that_does_not_fit_is_named(tmp_path):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "head.safetensors")
    with pytest.raises(MissingWeightsError, match=r"head.safetensors do not fit 'x \(its head\)': 1 of 2 .*\(bias\)"):
        load_file_strictly("x (its head)", torch.nn.Linear(2, 2), tmp_path / "head.safetensors")
    (tmp_path / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(MissingWeightsError, match=r"could not be loaded from .*head.safetensors"):
        load_file_strictly("x (its head)", torch.nn.Linear(2, 2), tmp_path / "head.safetensors")


def test_weights_of_another_size_are_refused(tmp_path):
    save_synclr(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MissingWeightsError, match=r"do not fit 'synclr_vit_b_16': \d+ of \d+ tensors missing"):
        build_encoder("synclr_vit_b_16", str(tmp_path), device=CPU)


def test_a_clip_of_another_resolution_is_refused_not_resized(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu", force_image_size=64)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    with pytest.raises(MissingWeightsError, match=r"visual.positional_embedding \[5, 768\] instead of \[50, 768\]"):
        build_encoder("clip_vit_b_32", str(tmp_path / "small.safetensors"), device=CPU)
