"""The pre-training of the mini models: tiny runs through the real pipeline, and what the shipped weights must hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gmail_kedro.mini.pretraining import pretrain_flux, pretrain_generator
from gmail_kedro.mini.pretraining.digit_reader import load_reader, scene_targets, train_reader
from gmail_kedro.mini.pretraining.generator_prompts import draw_prompts
from gmail_kedro.mini.pretraining.latent_reader import train_latent_reader
from gmail_kedro.mini.pretraining.pretrain_clip import PackagedClip, clip_config, pretrain_clip
from gmail_kedro.mini.pretraining.pretrain_language_model import pretrain_language_model
from gmail_kedro.mini.pretraining.tokenizers import (
    load_clip_tokenizer,
    load_gpt2_tokenizer,
    sample_texts,
    train_clip_tokenizer,
    train_gpt2_tokenizer,
)
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import draw_pool
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.generators.known_generators import build_generator
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.models.weight_sources import packaged_weights

from ...precision import assert_equal_but_rounding

WEIGHTS = (
    "clip",
    "stable_diffusion",
    "gpt2",
    "digit_reader",
    "clip_vision",
    "long_clip",
    "siglip",
    "synclr",
    "flux",
    "llama",
    "llava",
)
LIMIT_BYTES = 25 * 10**6


def test_all_shipped_weights_together_stay_small_and_hold_no_pickle():
    files = [path for name in WEIGHTS for path in packaged_weights(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_model_has_a_card_with_recipe_seed_data_and_measurements(name):
    card = (packaged_weights(name) / "README.md").read_text()
    for part in ("## Recipe", "seed 0", "## Data", "## Measured on held-out data", "| measure | value |"):
        assert part in card, part


def test_tokenizers_learn_the_same_merges_twice_and_read_any_text():
    texts = sample_texts(scene_count=50)
    first, second = (train_clip_tokenizer(texts, context_length=77) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert first.eos_token_id == max(first.get_vocab().values())
    assert len(first("ein Café, 犬 & „komisch“").input_ids) > 5
    gpt2 = train_gpt2_tokenizer(texts, context_length=128)
    text = "the number 42, ein Café 犬."
    assert gpt2.decode(gpt2(text).input_ids) == text


def test_tiny_clip_is_packaged_so_that_it_is_loaded_by_name(tmp_path):
    tokenizer = load_clip_tokenizer(packaged_weights("clip"))
    settings = {"steps": 2, "stop_after": 2, "scene_count": 20, "batch_size": 4, "seed": 0}
    model = pretrain_clip(tokenizer, **settings, work=tmp_path / "work")
    PackagedClip(model, tokenizer, clip_config(len(tokenizer))).save_pretrained(tmp_path / "clip")
    encoder = build_encoder("mini_clip", str(tmp_path / "clip"), device=torch.device("cpu"))
    assert encoder.encode_text(encoder.tokenize(["a red 7."])).shape == (1, 128)
    stored = json.loads((tmp_path / "clip/open_clip_config.json").read_text())
    assert stored["model_cfg"] == clip_config(len(tokenizer))
    again = pretrain_clip(tokenizer, **settings, work=tmp_path / "other")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_tiny_generator_trains_through_all_three_stages(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pretrain_generator, "DRAWING_STEPS", 1)
    monkeypatch.setattr(pretrain_generator, "READING_FROM", 2)
    monkeypatch.setattr(pretrain_generator, "READING_STEPS", 2)
    pipeline = pretrain_generator.pretrain_generator(
        load_clip_tokenizer(packaged_weights("clip")),
        vae_steps=2,
        unet_steps=4,
        scene_count=24,
        batch_size=4,
        seed=0,
        work=tmp_path,
    )
    latents = pretrain_generator.encode_latents(
        pipeline.vae,
        torch.from_numpy(draw_pool(load_scans("train"), count=24, seed=0).pixels).permute(0, 3, 1, 2),
    )
    assert latents.shape == (24, 16, 8, 8)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(16), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(16), atol=1e-2)
    pipeline.save_pretrained(tmp_path / "saved")
    drawn = pipeline("a red 7.", num_inference_steps=1, height=32, width=32, output_type="np").images[0]
    assert drawn.shape == (32, 32, 3) and np.isfinite(drawn).all()


def test_tiny_flux_is_saved_so_that_it_is_loaded_by_name_and_trains_the_same_twice(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pretrain_flux, "READING_STEPS", 2)
    teacher = pretrain_flux.load_teacher(packaged_weights("stable_diffusion"))
    settings = {"vae_steps": 2, "steps": 3, "scene_count": 8, "batch_size": 4, "seed": 0}
    first = pretrain_flux.pretrain_flux(teacher, **settings, work=tmp_path / "first")
    second = pretrain_flux.pretrain_flux(teacher, **settings, work=tmp_path / "second")
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        pairs = zip(getattr(first, name).parameters(), getattr(second, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name
    first.to(torch.float16).save_pretrained(tmp_path / "flux")
    sampling = Sampling(steps=2, guidance=4.0, resolution=32)
    made = build_generator("mini_flux", str(tmp_path / "flux"), sampling, device=torch.device("cpu"))
    assert made.generate(["a red 7."], [1])[0].image.size == (32, 32)
    assert made.count_truncated(["a red 7.", "seven " * 28]) == 1


def test_flux_learns_the_guided_velocity_of_the_teacher(monkeypatch):
    monkeypatch.setattr("gmail_kedro.hardware.multiplies_bfloat16", lambda device: False)  # what follows is float32
    teacher = pretrain_flux.load_teacher(packaged_weights("stable_diffusion"))
    pool = draw_pool(load_scans("train"), count=3, seed=0)
    prompts = draw_prompts(pool, seed=0)
    latents = torch.randn(3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    examples = pretrain_flux._ask_teacher(teacher, latents, prompts, seed=0)
    text = prompts.texts[4 + int(examples.which[1])]
    told, blank = teacher.encode_prompt(text, "cpu", 1, True)
    with torch.no_grad():
        velocity, without = (
            teacher.unet(examples.mixed[1:2], examples.time[1:2] * 1000, encoder_hidden_states=states).sample
            for states in (told, blank)
        )
    expected = without + 4 * (velocity - without)
    assert_equal_but_rounding(examples.guided(np.array([1]), torch.tensor([4.0])), expected, steps=1024)


def test_latent_reader_learns_digits_that_are_there():
    pool = draw_pool(load_scans("train"), count=64, seed=0, pair_fraction=0.0)
    truth = scene_targets(pool.scenes)
    latents = torch.nn.functional.one_hot(truth.first, 10).float()[:, :, None, None].expand(-1, -1, 8, 8)
    reader = train_latent_reader(latents.contiguous(), truth, steps=40, seed=0)
    rows = np.arange(64)
    right = reader.loss(latents, truth, rows).mean()
    wrong = reader.loss(latents.roll(1, dims=1), truth, rows).mean()
    assert right < 0.5 < wrong


def test_language_model_learns_captions():
    tokenizer = load_gpt2_tokenizer(packaged_weights("gpt2"))
    model = pretrain_language_model(tokenizer, steps=30, scene_count=60, batch_size=16, seed=0)
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer("the digit 7 in red ink.").input_ids]])
    with torch.no_grad():
        assert float(model(input_ids=ids, labels=ids).loss) < 0.8 * float(np.log(len(tokenizer)))


def test_reader_round_trip_and_truth(tmp_path):
    reader = train_reader(steps=3, scene_count=40, batch_size=8, seed=0)
    reader.save_pretrained(tmp_path)
    pool = draw_pool(load_scans("val"), count=10, seed=1)
    pixels = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    assert (load_reader(tmp_path).read(pixels).ink == reader.half().float().read(pixels).ink).all()
    truth = scene_targets(pool.scenes)
    assert truth.number_is_right(pool.scenes).all() and truth.ink_is_right(pool.scenes).all()


@pytest.mark.slow
def test_shipped_reader_and_clip_read_unseen_handwriting():
    pool = draw_pool(load_scans("test"), count=300, seed=7, pair_fraction=0.0)
    pixels = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    read = load_reader(packaged_weights("digit_reader")).read(pixels)
    assert float(read.number_is_right(pool.scenes).float().mean()) > 0.96


def test_no_configuration_names_a_folder_of_the_machine_it_was_made_on():
    for path in packaged_weights("clip").parent.rglob("*.json"):
        assert '_name_or_path": "/' not in path.read_text(), path
