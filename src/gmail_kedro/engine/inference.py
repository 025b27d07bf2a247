"""Runs an encoder over pictures and texts, batch by batch, with what was computed before reused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from gmail_kedro.engine.features import FeatureStore, hash_items, stamp
from gmail_kedro.engine.pixels import PixelBatches
from gmail_kedro.hardware import fast_arithmetic, resolve_device, resolve_precision
from gmail_kedro.interfaces import ImageSource, ImageTextEncoder
from gmail_kedro.params import RunParams

VIEWS: dict[str, Callable[[ImageTextEncoder, torch.Tensor], torch.Tensor]] = {
    "embedding": lambda encoder, images: encoder.encode_image(images),
    "pooled": lambda encoder, images: encoder.pool_image(images)[0],
    "patch_mean": lambda encoder, images: encoder.pool_image(images)[1].mean(dim=1),
}


@dataclass(frozen=True)
class Encoding:
    """How pictures and texts are encoded in a run.

    Attributes:
        store: Where results are kept.
        batch_size: Items at once.
        device: Where the encoder is.
        precision: ``float32`` or ``bfloat16``.
    """

    store: FeatureStore
    batch_size: int
    device: torch.device
    precision: str


def run_encoding(feature_store: Path, run: RunParams) -> Encoding:
    """Returns how a run encodes: on its device, ``auto`` precision resolved."""
    device = resolve_device(run.device)
    return Encoding(FeatureStore(feature_store), run.image_batch_size, device, resolve_precision(device, run.precision))


def encode_images(
    encoder: ImageTextEncoder,
    source: ImageSource,
    keys: Sequence[str],
    encoding: Encoding,
    *,
    view: str = "embedding",
) -> torch.Tensor:
    """Returns features of pictures, float32 [N, ...], not normalised; repeated calls read the store.

    Args:
        encoder: The frozen teacher, or a student with its adapter merged.
        source: Where the encoded pictures are.
        keys: Which pictures, in order; a picture that occurs twice is encoded once.
        encoding: Store, batch size, device and precision.
        view: ``embedding`` [N, D], ``pooled`` [N, W] (before the projection) or ``patch_mean`` [N, W'].

    Raises:
        ValueError: If the view is unknown, or the encoder is the route of the other modality.
    """
    _guard_route(encoder, source)
    if view not in VIEWS:
        raise ValueError(f"The view of an image must be one of {sorted(VIEWS)}. Got {view!r} instead.")
    unique = list(dict.fromkeys(keys))
    facts = {
        "kind": view,
        "encoder": encoder.fingerprint,
        "precision": encoding.precision,
        "items": hash_items(unique, partial(stamp, source)),
    }

    device, batch_size = encoding.device, encoding.batch_size

    def compute() -> torch.Tensor:
        pixels = PixelBatches(encoder, source, unique)
        batches = [range(start, min(start + batch_size, len(unique))) for start in range(0, len(unique), batch_size)]
        parts = []
        with torch.no_grad(), fast_arithmetic(encoding.device, precision=encoding.precision):
            for number, rows in enumerate(tqdm(batches, desc=f"Encoding {len(unique)} pictures", disable=None)):
                images = pixels[rows].to(device)
                pixels.announce(batches[number + 1] if number + 1 < len(batches) else [])
                parts.append(VIEWS[view](encoder, images).float().cpu())
        return torch.cat(parts)

    features = encoding.store.get_or_compute(facts, len(unique), compute)
    row_of = {key: row for row, key in enumerate(unique)}
    return features[[row_of[key] for key in keys]]


def _guard_route(encoder: ImageTextEncoder, source: ImageSource) -> None:
    """Refuses real images on the generated route and the reverse; a source that does not say may take either."""
    route, modality = getattr(encoder, "route", None), getattr(source, "modality", None)
    if route is not None and modality is not None and route != modality:
        raise ValueError(
            f"The encoder {encoder.name!r} is a student's route of {route} images. Got {modality} images "
            f"({type(source).__name__}). Take the route of {modality} images, or a teacher without a route."
        )


def encode_texts(encoder: ImageTextEncoder, texts: Sequence[str], encoding: Encoding) -> torch.Tensor:
    """Returns embeddings of texts, float32 [N, D], not normalised; repeated texts are encoded once.

    Args:
        encoder: The frozen teacher; its text tower is never tuned.
        texts: What is encoded, in order.
        encoding: Store, batch size, device and precision.
    """
    unique = list(dict.fromkeys(texts))
    facts = {
        "kind": "text",
        "encoder": encoder.fingerprint,
        "precision": encoding.precision,
        "items": hash_items(unique, lambda _: b""),
    }

    def compute() -> torch.Tensor:
        with torch.no_grad(), fast_arithmetic(encoding.device, precision=encoding.precision):
            parts = [
                encoder.encode_text(encoder.tokenize(unique[start : start + encoding.batch_size]).to(encoding.device))
                for start in range(0, len(unique), encoding.batch_size)
            ]
        return torch.cat(parts).float().cpu()

    features = encoding.store.get_or_compute(facts, len(unique), compute)
    row_of = {text: row for row, text in enumerate(unique)}
    return features[[row_of[text] for text in texts]]
