"""Generators: real diffusers folders, an image depends on its row alone, clear errors."""

import numpy as np
import pytest
import torch

from gmail_kedro.zoo.generators import GENERATORS, build_generator, find_generator, generator_revision
from gmail_kedro.zoo.registry import MissingWeightsError, UnknownModelError, packaged_weights

SETTINGS = {"steps": 3, "guidance": 2.0, "resolution": 32, "device": torch.device("cpu"), "precision": "float32"}


@pytest.fixture(scope="module")
def generator():
    return build_generator("mini_stable_diffusion", None, **SETTINGS)


def pictures(generator, prompts, seeds):
    made = generator.generate(prompts, seeds)
    assert [one.fault for one in made] == [""] * len(prompts)
    return [one.image for one in made]


def test_diffusers_itself_loads_the_folder():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(packaged_weights("stable_diffusion"))
    assert pipeline.vae_scale_factor == 4 and pipeline.unet.config.in_channels == 16


def test_picture_depends_on_prompt_and_seed_not_on_its_batch(generator):
    prompts, seeds = ["a red 7.", "the number 42.", "a blue 3."], [11, 22, 33]
    together = [np.asarray(picture).astype(int) for picture in pictures(generator, prompts, seeds)]
    for prompt, seed, picture in zip(prompts, seeds, together, strict=True):
        alone = np.asarray(pictures(generator, [prompt], [seed])[0]).astype(int)
        assert np.abs(alone - picture).max() <= 1
    assert np.abs(together[0] - np.asarray(pictures(generator, prompts[:1], [12])[0]).astype(int)).max() > 10
    assert together[0].shape == (32, 32, 3)


def test_same_batch_twice_is_bit_equal(generator):
    first, second = (pictures(generator, ["a red 7."] * 2, [1, 2]) for _ in range(2))
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(first, second, strict=True))


def test_long_prompts_are_counted(generator):
    assert generator.count_truncated(["a red 7.", "seven " * 60]) == 1


def test_revision_is_a_hash_of_the_files(generator):
    assert generator.revision == generator_revision("mini_stable_diffusion", None)
    assert len(generator.revision) == 64


def test_unknown_name_lists_the_known():
    with pytest.raises(UnknownModelError, match="no generator 'sdxl'. Known names: .*stable_diffusion_2_base"):
        find_generator("sdxl", None)


def test_folder_without_a_pipeline_says_what_was_expected(tmp_path):
    with pytest.raises(MissingWeightsError, match="model_index.json is not there"):
        find_generator("stable_diffusion_2_base", str(tmp_path))


def test_absent_hub_weights_name_the_mirror_and_the_local_option(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert len(GENERATORS["stable_diffusion_2_base"].hub_ids) == 2
    with pytest.raises(MissingWeightsError, match="sd2-community.*generation.generator_path"):
        find_generator("stable_diffusion_2_base", None)


def test_stable_diffusion_2_layout_runs_from_a_local_folder(tmp_path):
    """A pipeline of Stable Diffusion 2's own classes with tiny random weights, saved as the real one is."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(packaged_weights("clip"))
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        hidden_act="gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(tmp_path)  # fmt: skip
    tiny = build_generator("stable_diffusion_2_base", str(tmp_path), **(SETTINGS | {"resolution": 16}))
    assert pictures(tiny, ["a dog on a beach"], [1])[0].size == (16, 16)
