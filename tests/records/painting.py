"""A generator that paints its prompt and seed into the pixels, so that a picture tells which row made it."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gmail_kedro.params import GenerationParams
from gmail_kedro.records.generate import GenerationWork
from gmail_kedro.records.plan import plan_images

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
    """Returns the 64 bits that a picture of this row shows."""
    return hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8]


def paint(prompt: str, seed: int) -> Image.Image:
    bits = np.unpackbits(np.frombuffer(stamp(prompt, seed), dtype=np.uint8)).reshape(8, 8)
    return Image.fromarray((bits * 255).repeat(4, axis=0).repeat(4, axis=1)).convert("RGB")


def read_stamp(jpeg: bytes) -> bytes:
    """Returns the 64 bits that a picture shows."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))
    return np.packbits(pixels.reshape(8, 4, 8, 4).mean(axis=(1, 3)) > 127).tobytes()


class Painter:
    """The generator; writes the prompt of every picture it makes into ``log``."""

    name = "painter"
    revision = REVISION
    prompt_tokens = 6

    def __init__(self, log: Path | None = None, before: Callable[[], None] = lambda: None) -> None:
        self.log, self.before = log, before

    def count_truncated(self, prompts: Sequence[str]) -> int:
        return sum(len(prompt.split()) > self.prompt_tokens for prompt in prompts)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.before()
        if self.log is not None:
            with self.log.open("a") as file:
                file.writelines(f"{seed}\n" for seed in seeds)
        return [paint(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]


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
        "resolution": RESOLUTION,
        "batch_size": 2,
        "shard_size": 4,
        "jpeg_quality": 90,
    }
    return GenerationParams(**(values | changes))


def make_captions(image_count: int = 5, captions_per_image: int = 2) -> pd.DataFrame:
    """Returns captions of training photographs, then one photograph each for val and test."""
    rows = [
        (f"cap_{image}_{order}", f"img_{image}.jpg", f"photograph {image}, caption {order}", "train")
        for image in range(image_count)
        for order in range(captions_per_image)
    ]
    rows += [("val_0", "img_v.jpg", "held out", "val"), ("test_0", "img_t.jpg", "held out", "test")]
    return pd.DataFrame(rows, columns=["caption_id", "image_id", "caption", "split"])


def make_work(
    captions: pd.DataFrame | None = None, *, painter: Painter | None = None, **changes: object
) -> GenerationWork:
    """Returns work over ``make_captions()``; ``changes`` go into the generation parameters."""
    params = generation_params(**changes)
    return GenerationWork(
        plan=plan_images(make_captions() if captions is None else captions, params=params),
        build_generator=lambda: painter or Painter(),
        settings=SETTINGS | {"jpeg_quality": params.jpeg_quality},
        batch_size=params.batch_size,
    )


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
