"""Folders of pipelines: flaws found by a look at files; parts loaded with every tensor from its file, or refused."""

import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from gmail_kedro.models.generators.known_generators import GENERATORS, build_generator, find_generator
from gmail_kedro.models.generators.pipeline_files import find_pipeline_flaw, load_pipeline
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.models.inventory import find_weights
from gmail_kedro.models.weight_sources import MissingWeightsError, packaged_weights

from ..tiny import promising_nothing
from ..tiny_pipelines import save_flux, save_stable_diffusion_2, tiny_safety_checker

NAME, PIPELINE = "mini_stable_diffusion", "StableDiffusionPipeline"
CPU = torch.device("cpu")
SAMPLING = Sampling(steps=2, guidance=2.0, resolution=32, precision="float32")
MODEL, DIFFUSION_MODEL = "model.safetensors", "diffusion_pytorch_model.safetensors"
PARTS = [
    ("stable_diffusion_2_base", "text_encoder", MODEL),
    ("stable_diffusion_2_base", "unet", DIFFUSION_MODEL),
    ("stable_diffusion_2_base", "vae", DIFFUSION_MODEL),
    ("stable_diffusion_2_base", "safety_checker", MODEL),
    ("flux_dev", "text_encoder", MODEL),
    ("flux_dev", "text_encoder_2", MODEL),
    ("flux_dev", "transformer", DIFFUSION_MODEL),
]


def list_scheduler(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "PhantomScheduler"]}))


def cut(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def halve(folder):
    (folder / "text_encoder/model.safetensors").rename(folder / "text_encoder/model.fp16.safetensors")


FLAWS = {
    "its scheduler: diffusers has no PhantomScheduler": list_scheduler,
    "its unet: diffusion_pytorch_model.safetensors is damaged or cut short": cut,
    "its text_encoder: no model.safetensors; model.fp16.safetensors would not be read": halve,
    "its tokenizer: no files": lambda folder: shutil.rmtree(folder / "tokenizer"),
    "its tokenizer: none of tokenizer.json, vocab.json": lambda folder: (folder / "tokenizer/tokenizer.json").unlink(),
    "model_index.json is damaged": lambda folder: (folder / "model_index.json").write_text("{"),
    "no model_index.json": lambda folder: (folder / "model_index.json").unlink(),
}


@pytest.mark.parametrize("words", FLAWS)
def test_a_flaw_is_found_before_anything_is_loaded(words, tmp_path):
    folder = shutil.copytree(packaged_weights("stable_diffusion"), tmp_path / "copy")
    assert find_pipeline_flaw(folder, PIPELINE) == "" and find_generator(NAME, str(folder)) == folder
    FLAWS[words](folder)
    flaw = find_pipeline_flaw(folder, PIPELINE)
    assert flaw.startswith(words)
    with pytest.raises(MissingWeightsError) as refusal:
        find_generator(NAME, str(folder))
    assert flaw in str(refusal.value) and str(folder) in str(refusal.value)
    assert find_weights("generators", NAME, [folder]).path == packaged_weights("stable_diffusion")
    looked = find_weights("generators", "stable_diffusion_2_base", [folder]).looked
    assert looked[0] == f"{folder}: {flaw}"


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing(*GENERATORS):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "mini_stable_diffusion": packaged_weights("stable_diffusion"),
        "stable_diffusion_2_base": save_stable_diffusion_2(root / "sd2", **tiny_safety_checker(-1)),
        "flux_dev": save_flux(root / "dev"),
    }


def change(whole, name, part, file, tmp_path, tensors):
    """Copies a generator with other tensors in one of its parts; returns the folder."""
    folder = shutil.copytree(whole[name], tmp_path / "copy")
    path = folder / part / file
    save_file(tensors(load_file(path)), path, {"format": "pt"})
    return folder


def refuse(name, folder, words):
    with pytest.raises(MissingWeightsError, match=words):
        build_generator(name, str(folder), SAMPLING, device=CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["mini_stable_diffusion", "stable_diffusion_2_base", "flux_dev"])
def test_what_is_loaded_is_what_diffusers_loads(whole, name, dtype):
    ours = load_pipeline(name, whole[name], dtype=dtype)
    dtypes = {"default": dtype, "vae": torch.float32}
    theirs = DiffusionPipeline.from_pretrained(whole[name], dtype=dtypes, use_safetensors=True)
    assert type(ours) is type(theirs) and ours.components.keys() == theirs.components.keys()
    for part, value in theirs.components.items():
        assert type(ours.components[part]) is type(value)
        if isinstance(value, torch.nn.Module):
            found, wanted = ours.components[part].state_dict(), value.state_dict()
            assert found.keys() == wanted.keys() and not ours.components[part].training
            assert all(torch.equal(found[key], wanted[key]) and found[key].dtype == wanted[key].dtype for key in wanted)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
@pytest.mark.parametrize(("name", "part", "file"), PARTS)
def test_names_of_a_wrapped_model_are_refused(whole, tmp_path, name, part, file, prefix):
    folder = change(
        whole, name, part, file, tmp_path, lambda state: {f"{prefix}{key}": value for key, value in state.items()}
    )
    words = rf"{part} do not fit '{name} \(its {part}\)': (\d+) of \1 tensors missing .*, \1 unexpected \({prefix}"
    refuse(name, folder, words if part != "text_encoder_2" else rf"its {part}.*tensors missing .*unexpected \({prefix}")


@pytest.mark.parametrize(("name", "part", "file"), PARTS)
def test_a_lost_tensor_is_named(whole, tmp_path, name, part, file):
    lost = min(load_file(whole[name] / part / file))
    folder = change(
        whole, name, part, file, tmp_path, lambda state: {key: value for key, value in state.items() if key != lost}
    )
    refuse(name, folder, rf"its {part}\)': 1 of \d+ tensors missing \({lost}\)\.")


@pytest.mark.parametrize(("name", "part", "file"), PARTS)
def test_a_tensor_of_another_shape_is_named(whole, tmp_path, name, part, file):
    state = load_file(whole[name] / part / file)
    key = max(state, key=lambda one: state[one].numel())
    folder = change(whole, name, part, file, tmp_path, lambda state: state | {key: state[key][:-1].clone()})
    shape = list(state[key].shape)
    words = f"{key} {[shape[0] - 1, *shape[1:]]} instead of {shape}".replace("[", r"\[").replace("]", r"\]")
    refuse(name, folder, rf"its {part}\)': 1 of another shape \({words}\)")


def test_both_tensors_of_the_last_norm_are_named(whole, tmp_path):
    folder = change(
        whole,
        "mini_stable_diffusion",
        "text_encoder",
        MODEL,
        tmp_path,
        lambda state: {key: value for key, value in state.items() if "final_layer_norm" not in key},
    )
    words = r"2 of 36 tensors missing \(final_layer_norm.bias, final_layer_norm.weight\)"
    refuse("mini_stable_diffusion", folder, words)


def test_a_scheduler_that_cannot_be_read_is_refused(whole, tmp_path):
    folder = shutil.copytree(whole["mini_stable_diffusion"], tmp_path / "copy")
    (folder / "scheduler/scheduler_config.json").write_text("{")
    refuse("mini_stable_diffusion", folder, "'mini_stable_diffusion' could not be loaded from .*scheduler")
