"""What a complete set holds, in numbers: counts, sizes, prompts, quarantine, brightness and near-duplicates."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gmail_kedro.generated_sets.manifest import MADE
from gmail_kedro.generated_sets.quality_gate import hash_image
from gmail_kedro.generated_sets.set_folder import GeneratedSet
from gmail_kedro.interfaces import ImageSource

Item = TypeVar("Item")
LOOKED_AT_MOST = 20_000  # images, evenly spread: minutes for a set of any size
SMALL_SIDE = 64  # pixels; a large JPEG is decoded at the nearest fraction of its size that is not smaller
NEAR = 3  # bits of 192, as the quality gate's default


@dataclass(frozen=True)
class ImageFigures:
    """What the pixels of a set are like."""

    looked_at_count: int  # images that were decoded
    brightness_mean: float  # mean over the images of their mean luminance, 0 to 255
    brightness_std: float  # its standard deviation over the images
    contrast_mean: float  # mean over the images of the standard deviation of luminance inside each
    # Images for which another one that was looked at differs in 3 of 192 bits of its hash or fewer; the gate compares
    # within a shard and between samples of a caption, this the whole set
    near_duplicate_count: int


def measure_images(images: ImageSource, keys: Sequence[str]) -> ImageFigures:
    """Decodes images, small, and returns what they are like; at most ``LOOKED_AT_MOST``, evenly spread.

    Raises:
        ValueError: If there is none.
    """
    from sklearn.neighbors import NearestNeighbors

    if not keys:
        raise ValueError("There is no image to look at: the set has none that was made.")
    chosen = spread(keys, LOOKED_AT_MOST)
    brightness, contrast = np.empty(len(chosen)), np.empty(len(chosen))
    hashes = []
    for position, key in enumerate(tqdm(chosen, desc="looking at images", unit="image", disable=None, leave=False)):
        small = _decode_small(images.read(key))
        luminance = np.asarray(small.convert("L"), dtype=np.float32)
        brightness[position], contrast[position] = luminance.mean(), luminance.std()
        hashes.append(hash_image(small))
    bits = np.unpackbits(np.stack(hashes), axis=1).astype(np.float32)
    # Brute force on bits as floats is one matrix product; a tree gains nothing in 192 dimensions.
    neighbours = NearestNeighbors(n_neighbors=min(2, len(chosen)), algorithm="brute").fit(bits)
    differing = neighbours.kneighbors(bits)[0][:, 1:] ** 2  # of zeros and ones, the squared distance is the count
    return ImageFigures(
        looked_at_count=len(chosen),
        brightness_mean=round(float(brightness.mean()), 2),
        brightness_std=round(float(brightness.std()), 2),
        contrast_mean=round(float(contrast.mean()), 2),
        near_duplicate_count=int((differing < NEAR + 0.5).sum()),
    )


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Returns ``count`` of the items, evenly spread, or all of them when there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[position] for position in np.linspace(0, len(items) - 1, count).round().astype(int)]


def set_statistics(generated_set: GeneratedSet, figures: ImageFigures) -> dict[str, Any]:
    """Returns the statistics of a set as nested JSON values."""
    manifest, made = generated_set.manifest, generated_set.made
    words = manifest["prompt"].str.split().str.len()
    return {
        "counts": {
            "planned": len(manifest),
            "made": len(made),
            "quarantined": len(manifest) - len(made),
            "photographs": int(manifest["image_id"].nunique()),
            "captions": int(manifest["caption_id"].nunique()),
            "shards": int(manifest["shard_id"].nunique()),
        },
        "quarantine": _quarantine(manifest),
        "samples_per_caption": _histogram(made.groupby("caption_id").size().reindex(manifest["caption_id"].unique())),
        "bytes": {"pictures": int(made["size_bytes"].sum()), "mean": round(float(made["size_bytes"].mean()), 1)},
        "prompts": {
            "distinct": int(manifest["prompt"].nunique()),
            "words_min": int(words.min()),
            "words_median": float(words.median()),
            "words_max": int(words.max()),
            "truncated": generated_set.images.description.truncated_prompt_count,
        },
        "pictures": {"identical_count": int(made["sha256"].duplicated().sum()), **asdict(figures)},
    }


def _decode_small(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.draft("RGB", (SMALL_SIDE, SMALL_SIDE))  # libjpeg scales while it decodes and skips most of the work
    return image.convert("RGB")


def _quarantine(manifest: pd.DataFrame) -> dict[str, int]:
    reasons = manifest.loc[manifest["status"] != MADE, "reason"].value_counts()
    return {str(reason): int(count) for reason, count in reasons.items()}


def _histogram(sizes: "pd.Series[float]") -> dict[str, int]:
    counts = sizes.fillna(0).astype(int).value_counts().sort_index()
    return {str(size): int(count) for size, count in counts.items()}
