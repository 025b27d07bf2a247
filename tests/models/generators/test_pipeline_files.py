"""Flaws of a generator's folder are found by a look at its files, in the same words before a run and in it."""

import json
import shutil

import pytest

from gmail_kedro.models.generators.known_generators import find_generator
from gmail_kedro.models.generators.pipeline_files import find_pipeline_flaw
from gmail_kedro.models.inventory import find_weights
from gmail_kedro.models.weight_sources import MissingWeightsError, packaged_weights

NAME, PIPELINE = "mini_stable_diffusion", "StableDiffusionPipeline"


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
