"""A generator that paints its prompt and seed into the pixels, so that an image tells which row made it."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from gmail_kedro.generated_sets.generate import GenerationReport, MapJobs, generate_images
from gmail_kedro.generated_sets.make_shard import ShardMaker
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.interfaces import Decoded
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.params.quality import QualityParams

RESOLUTION = 32
REVISION = "paint-1"
SETTINGS = {
    "generator": "painter",
    "revision": REVISION,
    "steps": 1,
    "guidance": 3.0,
    "resolution": RESOLUTION,
    "jpeg_quality": 90,
}


def stamp(prompt: str, seed: int) -> bytes:
    """Returns the 64 bits that an image of this row shows."""
    return hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8]


def paint(prompt: str, seed: int) -> Image.Image:
    return paint_bits(np.unpackbits(np.frombuffer(stamp(prompt, seed), dtype=np.uint8)).reshape(8, 8))


def paint_bits(bits: np.ndarray) -> Image.Image:
    return Image.fromarray((bits * 255).repeat(4, axis=0).repeat(4, axis=1)).convert("RGB")


def read_stamp(jpeg: bytes) -> bytes:
    """Returns the 64 bits that an image shows."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))
    return np.packbits(pixels.reshape(8, 4, 8, 4).mean(axis=(1, 3)) > 127).tobytes()


class Painter:
    """The generator; writes the prompt of every image it makes into ``log``."""

    name = "painter"
    revision = REVISION
    prompt_tokens = 6

    def __init__(self, log: Path | None = None, before: Callable[[], None] = lambda: None) -> None:
        self.log, self.before = log, before

    def count_truncated(self, prompts: Sequence[str]) -> int:
        return sum(len(prompt.split()) > self.prompt_tokens for prompt in prompts)

    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        self.before()
        if self.log is not None:
            with self.log.open("a") as file:
                file.writelines(f"{seed}\n" for seed in seeds)
        stamps = b"".join(stamp(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        bits = np.unpackbits(np.frombuffer(stamps, dtype=np.uint8))
        return torch.from_numpy(bits).float().view(-1, 8, 8)

    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        finite = latents.isfinite().flatten(1).all(1)
        return [
            Decoded(paint_bits(bits.numpy().astype(np.uint8))) if ok else Decoded(None, "not_finite")
            for bits, ok in zip(latents, finite, strict=True)
        ]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Decoded]:
        return self.decode(self.denoise(prompts, seeds))


def generation_params(**changes: object) -> GenerationParams:
    values = {
        "generator": "painter",
        "generator_path": None,
        "image_count": None,
        "captions_per_image": 2,
        "samples_per_caption": 1,
        "dedupe_prompts": False,
        "seed": 7,
        "steps": 1,
        "guidance": 3.0,
        "scheduler": None,
        "resolution": RESOLUTION,
        "precision": "float32",
        "negative_prompt": "",
        "prompt_template": "{}",
        "max_prompt_tokens": None,
        "variant": "none",
        "batch_size": 2,
        "shard_size": 4,
        "jpeg_quality": 90,
    }
    return GenerationParams(**(values | changes))


def quality_params(**changes: object) -> QualityParams:
    values = {
        "black_level": 8,
        "min_deviation": 4.0,
        "duplicate_distance": 4,
        "min_caption_score": None,
        "retries": 0,
        "max_quarantined": 1.0,
        "limit_after": 200,
        "max_unreadable": 0.0,
    }
    return QualityParams(**(values | changes))


def make_captions(image_count: int = 5, captions_per_image: int = 2) -> pd.DataFrame:
    """Returns captions of real training images, then one real image each for val and test."""
    rows = [
        (f"cap_{image}_{order}", f"img_{image}.jpg", f"photograph {image}, caption {order}", "train")
        for image in range(image_count)
        for order in range(captions_per_image)
    ]
    rows += [("val_0", "img_v.jpg", "held out", "val"), ("test_0", "img_t.jpg", "held out", "test")]
    return pd.DataFrame(rows, columns=["caption_id", "image_id", "caption", "split"])


def make_work(
    captions: pd.DataFrame | None = None,
    *,
    painter: Painter | None = None,
    quality: dict[str, object] | None = None,
    **changes: object,
) -> ShardMaker:
    """Returns what makes ``make_captions()``; ``changes`` go into the generation parameters."""
    params = generation_params(**changes)
    return ShardMaker(
        plan=plan_images(make_captions() if captions is None else captions, params=params),
        build_generator=lambda: painter or Painter(),
        folder=Path("nowhere"),
        settings=SETTINGS | {"jpeg_quality": params.jpeg_quality},
        batch_size=params.batch_size,
        quality=quality_params(**(quality or {})),
    )


def generate(work: ShardMaker, folder: Path, map_jobs: MapJobs | None = None) -> GenerationReport:
    """Generates what ``make_work`` returned into a folder."""
    return generate_images(
        work.plan,
        work.build_generator,
        folder,
        settings=work.settings,
        quality=work.quality,
        batch_size=work.batch_size,
        map_jobs=map_jobs,
    )


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder and of those in it, by its path from there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Spoiler(Painter):
    """Spoils the images of some prompts: those with "NaN", "black", "blank", "flagged", "small", "again" or "poison".

    ``again`` paints the same image for every seed; ``poison`` makes the generator fail.
    """

    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        if any("poison" in prompt for prompt in prompts):
            raise ValueError("poisoned")
        seeds = [7 if "again" in prompt else seed for prompt, seed in zip(prompts, seeds, strict=True)]
        latents = super().denoise(["again" if "again" in prompt else prompt for prompt in prompts], seeds)
        for row, prompt in enumerate(prompts):
            for word, value in (("NaN", torch.nan), ("black", 0.0), ("blank", 1.0), ("flagged", 2.0), ("small", 3.0)):
                if word in prompt:
                    latents[row] = value
        return latents

    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        return [self._spoil(made, float(row.max())) for made, row in zip(super().decode(latents), latents, strict=True)]

    def _spoil(self, made: Decoded, mark: float) -> Decoded:
        if mark == 2.0:
            return Decoded(None, "safety")
        return Decoded(made.image.resize((16, 16))) if mark == 3.0 and made.image else made


SPOILT = {1: "NaN", 3: "black", 4: "flagged", 6: "blank", 9: "small"}
REASONS = {"NaN": "not_finite", "black": "black", "flagged": "safety", "blank": "blank", "small": "wrong_size"}


def spoil_captions(words: Mapping[int, str] = SPOILT, *, image_count: int = 12) -> pd.DataFrame:
    """Returns one caption a real image, with words that make the ``Spoiler`` spoil some images."""
    captions = make_captions(image_count, captions_per_image=1)
    for row, word in words.items():
        captions.loc[row, "caption"] = f"{word} {row}"
    return captions
