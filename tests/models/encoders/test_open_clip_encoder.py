"""Folders with several formats, files beside a configuration, and other models under a name."""

import json
import shutil

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.open_clip_encoder import read_source
from gmail_kedro.models.weight_sources import MissingWeightsError, packaged_weights

CPU = torch.device("cpu")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CONFIG, OWN = "open_clip_config.json", "open_clip_model.safetensors"


@pytest.fixture
def two_formats(tmp_path):
    """open_clip's weights and transformers' side by side, as published CLIPs lie on hubs."""
    folder = shutil.copytree(packaged_weights("clip"), tmp_path / "clip")
    save_file({"vision_model.embeddings.class_embedding": torch.ones(8)}, folder / "model.safetensors")
    return folder


def same(first, second):
    assert torch.equal(first.encode_image(IMAGES), second.encode_image(IMAGES))
    tokens = first.tokenize(["a red 7."])
    assert torch.equal(first.encode_text(tokens), second.encode_text(tokens))
    assert first.fingerprint == second.fingerprint


def test_of_two_formats_open_clips_is_read_with_the_configuration_beside_it(two_formats, encoder):
    same(build_encoder("mini_clip", str(two_formats), device=CPU), encoder)
    same(build_encoder("mini_clip", str(two_formats / OWN), device=CPU), encoder)


def test_open_clips_older_file_comes_before_anothers_safetensors(two_formats, encoder):
    torch.save(load_file(two_formats / OWN), two_formats / "open_clip_pytorch_model.bin")
    (two_formats / OWN).unlink()
    same(build_encoder("mini_clip", str(two_formats), device=CPU), encoder)


def test_the_advice_about_several_files_works(two_formats, encoder):
    (two_formats / OWN).rename(two_formats / "mine.safetensors")
    with pytest.raises(
        MissingWeightsError, match="holds several: mine.safetensors, model.safetensors. Set run.encoder_"
    ):
        build_encoder("mini_clip", str(two_formats), device=CPU)
    same(build_encoder("mini_clip", str(two_formats / "mine.safetensors"), device=CPU), encoder)
    with pytest.raises(
        MissingWeightsError, match=r"model.safetensors do not fit 'mini_clip': \d+ of \d+ .*1 unexpected"
    ):
        build_encoder("mini_clip", str(two_formats / "model.safetensors"), device=CPU)


@pytest.mark.parametrize(("family", "file"), [("long_clip", "longclip.safetensors"), ("synclr", "synclr.safetensors")])
def test_every_familys_own_file_comes_first_and_is_read_by_its_path(family, file, tmp_path):
    folder = shutil.copytree(packaged_weights(family), tmp_path / family)
    save_file({"x": torch.ones(1)}, folder / "model.safetensors")
    packaged = build_encoder(f"mini_{family}", None, device=CPU)
    for path in (folder, folder / file):
        assert build_encoder(f"mini_{family}", str(path), device=CPU).fingerprint == packaged.fingerprint


@pytest.mark.parametrize("name", ["clip_vit_l_14", "clip_vit_b_32", "siglip_vit_b_16"])
@pytest.mark.parametrize("file", ["", OWN])
def test_a_small_clip_is_not_taken_under_the_name_of_a_large_one(name, file):
    with pytest.raises(
        MissingWeightsError, match=rf"clip/{CONFIG} is not '{name}', .*width 128 instead of .*layers 4 instead of"
    ):
        build_encoder(name, str(packaged_weights("clip") / file), device=CPU)


def test_the_activation_beside_a_file_is_taken_not_the_names(tmp_path):
    """ViT-B/32 with GELU under the name of OpenAI's, which has QuickGELU: the same sizes, another function."""
    config = open_clip.get_model_config("ViT-B-32")
    save_file({"x": torch.ones(1)}, tmp_path / OWN)
    named = read_source("clip_vit_b_32", tmp_path / OWN, "ViT-B-32-quickgelu", "openai")
    assert named.config["quick_gelu"] and named.identifier == "ViT-B-32-quickgelu"
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3}}))
    for path in (tmp_path, tmp_path / OWN):
        beside = read_source("clip_vit_b_32", path, "ViT-B-32-quickgelu", "openai")
        assert not beside.config.get("quick_gelu") and beside.preprocessing == {"mean": [0.5] * 3}
        assert beside.identifier == f"local-dir:{tmp_path}"


@pytest.mark.parametrize("stored", ["{", "{}", '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"colour": 1}}}'])
def test_a_configuration_of_something_else_is_refused(stored, tmp_path):
    folder = shutil.copytree(packaged_weights("clip"), tmp_path / "clip")
    (folder / CONFIG).write_text(stored)
    with pytest.raises(
        MissingWeightsError, match=rf"'mini_clip' cannot be read by .*{CONFIG}.* open_clip's configuration"
    ):
        build_encoder("mini_clip", str(folder), device=CPU)


def test_a_text_tower_that_open_clip_would_fetch_is_refused(tmp_path):
    folder = shutil.copytree(packaged_weights("clip"), tmp_path / "clip")
    facts = json.loads((folder / CONFIG).read_text())
    facts["model_cfg"]["text_cfg"]["hf_model_name"] = "somebody/model"
    (folder / CONFIG).write_text(json.dumps(facts))
    with pytest.raises(MissingWeightsError, match="text tower from transformers, 'somebody/model'"):
        build_encoder("mini_clip", str(folder), device=CPU)
