"""Measures the mini models on held-out handwriting, through the same loading code that users run."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import ImageGenerator, ImageTextEncoder
from gmail_kedro.metrics.retrieval import RetrievalResult, retrieval_scores
from gmail_kedro.metrics.statistics import Interval, bootstrap_interval, paired_difference
from gmail_kedro.mini.pretraining.digit_reader import NO_DIGIT, load_reader
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.caption_grammar import describe
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import Scene, ScenePool, draw_pool
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.generators.known_generators import build_generator
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.models.vision_language.language_models import build_language_model

CPU = torch.device("cpu")
TEST_COUNT, RESAMPLES = 500, 2000
TUNING_PAIRS, TUNING_STEPS = 1500, 120


def measure_encoder() -> dict[str, Any]:
    """Measures retrieval on 500 test scenes with five captions each, and reading of single digits."""
    encoder = build_encoder("mini_clip", None, device=CPU)
    scores: dict[str, Any] = {}
    for split in ("val", "test"):
        pool, captions = captioned_pool(split, TEST_COUNT)
        hits = retrieve(encoder, pool, captions)
        scores |= {f"{split}_{name}": value for name, value in hits.scores().items()}
    return scores | {"test_digit_accuracy": measure_digits(encoder)}


def measure_digits(encoder: ImageTextEncoder) -> Interval:
    """Returns how often the digit of 800 single-digit test scenes is named, in percent."""
    singles = draw_pool(load_scans("test"), count=800, seed=902, pair_fraction=0.0)
    prompts = [f"handwritten {digit}" for digit in range(10)]
    image, text = embed(encoder, singles, prompts)
    right = (image @ text.T).argmax(1) == torch.tensor([scene.digits[0] for scene in singles.scenes])
    return bootstrap_interval(right.float().numpy() * 100, count=RESAMPLES, seed=0)


def measure_room_to_gain(*, seed: int) -> dict[str, Any]:
    """Tunes the whole mini CLIP on real training pairs and measures what test retrieval gains.

    A tower that cannot be improved with real pairs cannot show what generated ones are worth.
    """
    encoder = build_encoder("mini_clip", None, device=CPU)
    pool, captions = captioned_pool("test", TEST_COUNT)
    before = retrieve(encoder, pool, captions)
    _tune_on_real_pairs(encoder, seed=seed)
    after = retrieve(encoder, pool, captions)
    scenes = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    gains = {}
    for name, first, second, groups in (
        ("i2t_r1", before.i2t_hits[1], after.i2t_hits[1], None),
        ("t2i_r1", before.t2i_hits[1], after.t2i_hits[1], scenes),
    ):
        gains[f"gain_{name}"] = paired_difference(second * 100.0, first * 100.0, count=RESAMPLES, seed=0, groups=groups)
    return gains


def measure_generator(name: str, path: Path | None, reader_folder: Path, sampling: Sampling) -> dict[str, Any]:
    """Reads generated single-digit and two-digit scenes, and probes frozen CLIP features for the style gap."""
    from gmail_kedro.method.gap import short_gap_report

    reader = load_reader(reader_folder)
    generator = build_generator(name, None if path is None else str(path), sampling, device=CPU)
    scores: dict[str, Any] = {}
    for kind, fraction in (("single", 0.0), ("pair", 1.0)):
        pool, captions = captioned_pool("test", TEST_COUNT, pair_fraction=fraction)
        prompts = [_naming_caption(scene, texts) for scene, texts in zip(pool.scenes, captions, strict=True)]
        images = _sample(generator, prompts)
        read = reader.read(torch.from_numpy(images).permute(0, 3, 1, 2))
        number, ink = read.number_is_right(pool.scenes), read.ink_is_right(pool.scenes)
        said = torch.tensor([scene.ink in text for scene, text in zip(pool.scenes, prompts, strict=True)])
        both = number & (ink | ~said)
        count = (read.second == NO_DIGIT) == (kind == "single")
        scores[f"{kind}_count_read"] = bootstrap_interval(count.float().numpy() * 100, count=RESAMPLES, seed=0)
        scores[f"{kind}_said_ink_read"] = bootstrap_interval(ink[said].float().numpy() * 100, count=RESAMPLES, seed=0)
        scores[f"{kind}_number_read"] = bootstrap_interval(number.float().numpy() * 100, count=RESAMPLES, seed=0)
        scores[f"{kind}_number_and_ink_read"] = bootstrap_interval(both.float().numpy() * 100, count=RESAMPLES, seed=0)
        scores[f"{kind}_real_read"] = float(
            reader.read(_pixels(pool)).number_is_right(pool.scenes).float().mean() * 100
        )
        encoder = build_encoder("mini_clip", None, device=CPU)
        real, _ = embed(encoder, pool, ["scan"])
        generated, _ = embed(encoder, ScenePool(pool.scenes, images), ["scan"])
        groups = [str(index) for index in range(len(pool.scenes))]
        gap = short_gap_report(generated, real, groups, seed=0)
        scores |= {f"{kind}_{name}": value for name, value in gap.items()}
    return scores


def measure_language_model() -> dict[str, Any]:
    """Measures the perplexity per token of held-out captions."""
    model, tokenizer = build_language_model("mini_gpt2", None)
    _, captions = captioned_pool("test", 200)
    end, total, count = tokenizer.eos_token_id, 0.0, 0
    with torch.no_grad():
        for caption in (text for texts in captions for text in texts):
            ids = torch.tensor([[end, *tokenizer(caption).input_ids, end]])
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return {"test_perplexity": float(np.exp(total / count))}


def measure_reader(folder: Path) -> dict[str, Any]:
    """Measures how well the reader reads real test handwriting."""
    reader = load_reader(folder)
    scores: dict[str, Any] = {}
    for kind, fraction in (("single", 0.0), ("pair", 1.0)):
        pool = draw_pool(load_scans("test"), count=2000, seed=903, pair_fraction=fraction)
        read = reader.read(_pixels(pool))
        scores[f"{kind}_number_read"] = float(read.number_is_right(pool.scenes).float().mean() * 100)
        scores[f"{kind}_ink_read"] = float(read.ink_is_right(pool.scenes).float().mean() * 100)
    return scores


def captioned_pool(split: str, count: int, *, pair_fraction: float = 0.4) -> tuple[ScenePool, list[list[str]]]:
    """Returns scenes of a split, the same ones every time, with five captions each."""
    pool = draw_pool(load_scans(split), count=count, seed=901, pair_fraction=pair_fraction)
    rng = np.random.default_rng(901)
    return pool, [describe(scene, rng) for scene in pool.scenes]


def _naming_caption(scene: Scene, captions: list[str]) -> str:
    """Returns the first caption that names the number in figures; the grammar nearly always has one."""
    return next((text for text in captions if scene.number in text), f"the number {scene.number} in {scene.ink} ink.")


def _pixels(pool: ScenePool) -> torch.Tensor:
    return torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)


def embed(encoder: ImageTextEncoder, pool: ScenePool, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns unit image and text embeddings, images through the encoder's own preprocessing."""
    from PIL import Image

    images = torch.stack([encoder.preprocess(Image.fromarray(pixels)) for pixels in pool.pixels])
    with torch.no_grad(), fast_arithmetic(CPU, precision="auto"):
        image = torch.cat([encoder.encode_image(part) for part in images.split(250)]).float()
        text = torch.cat([encoder.encode_text(encoder.tokenize(texts[i : i + 250])) for i in range(0, len(texts), 250)])
    return F.normalize(image, dim=-1), F.normalize(text.float(), dim=-1)


def retrieve(encoder: ImageTextEncoder, pool: ScenePool, captions: list[list[str]]) -> RetrievalResult:
    """Retrieves captions by scene and scenes by caption."""
    image, text = embed(encoder, pool, [caption for texts in captions for caption in texts])
    index = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(texts) for texts in captions]))
    return retrieval_scores(image, text, index)


def _sample(generator: ImageGenerator, prompts: list[str]) -> np.ndarray:
    """Returns uint8 [N, 32, 32, 3]; the seed of each image is its position."""
    images = [
        np.asarray(made.image)
        for start in range(0, len(prompts), 50)
        for made in generator.generate(prompts[start : start + 50], list(range(start, min(start + 50, len(prompts)))))
    ]
    return np.stack(images)


def _tune_on_real_pairs(encoder: ImageTextEncoder, *, seed: int) -> None:
    """Tunes all weights on real training pairs by the symmetric contrastive loss."""
    from PIL import Image

    from gmail_kedro.engine.batches import batch_rows
    from gmail_kedro.engine.loop import build_adamw, build_schedule

    pool, captions = captioned_pool("train", TUNING_PAIRS)
    images = torch.stack([encoder.preprocess(Image.fromarray(pixels)) for pixels in pool.pixels])
    tokens = torch.stack([encoder.tokenize(texts) for texts in captions])
    weights = _unfreeze(encoder)
    logit_scale = torch.nn.Parameter(torch.tensor(encoder.logit_scale).log())
    optimizer = build_adamw([*weights, logit_scale], learning_rate=2e-4, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=TUNING_STEPS, warmup_steps=20)

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(images), batch_size=128, seed=seed)
        which = stream_rng(seed, Stream.MEASURED_TUNING, index).integers(0, tokens.shape[1], len(rows))
        image = F.normalize(encoder.encode_image(images[rows]), dim=-1)
        text = F.normalize(encoder.encode_text(tokens[rows, which]), dim=-1)
        logits, target = logit_scale.exp() * image @ text.T, torch.arange(len(rows))
        return {"loss": (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2}

    run_training(step, optimizer, schedule, name="clip on real pairs", steps=TUNING_STEPS)
    for weight in weights:
        weight.requires_grad_(False)


def _unfreeze(encoder: ImageTextEncoder) -> list[Any]:
    """Lets all weights of an image-text encoder learn, and returns them."""
    towers = [tower for tower in (encoder.image_tower, encoder.text_tower) if tower is not None]
    weights = [*(parameter for tower in towers for parameter in tower.parameters()), encoder.projection]
    return [weight.requires_grad_(True) for weight in weights if weight is not None]
