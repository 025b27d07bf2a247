"""Runs an encoder over pictures and texts, batch by batch, with what was computed before reused."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from gmail_kedro.engine.distributed import JobMapper, job_mapper, map_here
from gmail_kedro.engine.feature_store import FeatureStore, hash_items, stamp
from gmail_kedro.engine.image_batches import PixelBatches
from gmail_kedro.hardware import fast_arithmetic, resolve_device, resolve_precision
from gmail_kedro.interfaces import ImageSource, ImageTextEncoder
from gmail_kedro.params import RunParams

CHUNK_BATCHES = 32
VIEWS: dict[str, Callable[[ImageTextEncoder, torch.Tensor], torch.Tensor]] = {
    "embedding": lambda encoder, images: encoder.encode_image(images),
    "pooled": lambda encoder, images: encoder.pool_image(images)[0],
    "patch_mean": lambda encoder, images: encoder.pool_image(images)[1].mean(dim=1),
}


@dataclass(frozen=True)
class RemoteEncoder:
    """An encoder that other processes build for themselves.

    Attributes:
        build: Builds it on a device; equal to the encoder it is used for.
        device: ``run.device``, resolved where the encoder is built.
        map_jobs: Who does the work.
    """

    build: Callable[[torch.device], ImageTextEncoder]
    device: str
    map_jobs: JobMapper


@dataclass(frozen=True)
class Encoding:
    """How pictures and texts are encoded in a run.

    Attributes:
        store: Where results are kept.
        batch_size: Items at once.
        device: Where the encoder is.
        precision: ``float32`` or ``bfloat16``.
        remote: Where else the work is done; None: here.
    """

    store: FeatureStore
    batch_size: int
    device: torch.device
    precision: str
    remote: RemoteEncoder | None = None


class EncoderWorker:
    """Encodes chunks of items with an encoder that is built once.

    Args:
        build: Returns the encoder and the device it is on.
        encode: Maps the encoder, items, a batch size and the device to the features [B, ...] of each batch; can be
            pickled.
        batch_size: Items at once.
        precision: ``float32`` or ``bfloat16``.
    """

    def __init__(self, build: "Builder", encode: "Encode", batch_size: int, precision: str) -> None:
        self._encoder, self._device = build()
        self._encode, self._batch_size, self._precision = encode, batch_size, precision

    def __call__(self, items: Sequence[str]) -> torch.Tensor:
        """Returns features of a chunk, float32 [N, ...], on the CPU."""
        with torch.no_grad(), fast_arithmetic(self._device, precision=self._precision):
            return torch.cat(list(self._encode(self._encoder, items, self._batch_size, self._device)))


def run_encoding(
    feature_store: Path, run: RunParams, build: Callable[[torch.device], ImageTextEncoder] | None = None
) -> Encoding:
    """Returns how a run encodes: on its device, ``auto`` precision resolved.

    Args:
        feature_store: Folder of the features that were computed before.
        run: Device, precision, batch size, and the engine.
        build: Builds the run's encoder on a device; with it, the run's engine may encode on other machines.
    """
    device = resolve_device(run.device)
    remote = None if build is None or run.engine == "local" else RemoteEncoder(build, run.device, job_mapper(run))
    precision = resolve_precision(device, run.precision)
    return Encoding(FeatureStore(feature_store), run.image_batch_size, device, precision, remote)


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
    guard_route(encoder, source)
    if view not in VIEWS:
        raise ValueError(f"The view of an image must be one of {sorted(VIEWS)}. Got {view!r} instead.")
    encode = partial(_encode_pictures, source=source, view=view)
    return _encode_unique(encoder, keys, encode, encoding, kind=view, read=partial(stamp, source))


def guard_route(encoder: ImageTextEncoder, source: ImageSource) -> None:
    """Refuses real images on the generated route and the reverse; a source that does not say may take either.

    Raises:
        ValueError: If the encoder is the route of the other modality.
    """
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
    return _encode_unique(encoder, texts, _encode_sentences, encoding, kind="text", read=lambda _: b"")


Builder = Callable[[], tuple[ImageTextEncoder, torch.device]]
Encode = Callable[[ImageTextEncoder, Sequence[str], int, torch.device], Iterator[torch.Tensor]]


def _encode_unique(
    encoder: ImageTextEncoder,
    items: Sequence[str],
    encode: Encode,
    encoding: Encoding,
    *,
    kind: str,
    read: Callable[[str], bytes],
) -> torch.Tensor:
    unique = list(dict.fromkeys(items))
    facts = {
        "kind": kind,
        "encoder": encoder.fingerprint,
        "precision": encoding.precision,
        "items": hash_items(unique, read),
    }

    def compute() -> torch.Tensor:
        # Chunks are whole batches: wherever they are encoded, an item has the same neighbours.
        size = encoding.batch_size * CHUNK_BATCHES
        chunks = [unique[start : start + size] for start in range(0, len(unique), size)]
        build: Builder
        map_jobs: JobMapper
        if encoding.remote is None:
            build, map_jobs = partial(_return_both, encoder, encoding.device), map_here
        else:
            build, map_jobs = partial(_build_there, encoding.remote), encoding.remote.map_jobs
        build_worker = partial(EncoderWorker, build, encode, encoding.batch_size, encoding.precision)
        kept = encoding.store.parts(facts, [len(chunk) for chunk in chunks])
        parts = kept.read()
        unfinished = chunks[len(parts) :]
        computed = map_jobs(build_worker, unfinished) if unfinished else []
        bar = tqdm(computed, f"Encoding {len(unique)} items", total=len(chunks), initial=len(parts), disable=None)
        for part in bar:
            if len(chunks) > 1:  # one alone is stored when it is finished
                kept.write(len(parts), part)
            parts.append(part)
        return torch.cat(parts)

    features = encoding.store.get_or_compute(facts, len(unique), compute)
    row_of = {item: row for row, item in enumerate(unique)}
    return features[[row_of[item] for item in items]]


def _return_both(encoder: ImageTextEncoder, device: torch.device) -> tuple[ImageTextEncoder, torch.device]:
    return encoder, device


def _build_there(remote: RemoteEncoder) -> tuple[ImageTextEncoder, torch.device]:
    device = resolve_device(remote.device)
    return remote.build(device), device


def _encode_pictures(
    encoder: ImageTextEncoder,
    keys: Sequence[str],
    batch_size: int,
    device: torch.device,
    *,
    source: ImageSource,
    view: str,
) -> Iterator[torch.Tensor]:
    pixels = PixelBatches(encoder, source, keys)
    batches = _batches(len(keys), batch_size)
    for number, rows in enumerate(batches):
        images = pixels[rows].to(device)
        pixels.announce(batches[number + 1] if number + 1 < len(batches) else [])
        yield VIEWS[view](encoder, images).float().cpu()


def _encode_sentences(
    encoder: ImageTextEncoder, texts: Sequence[str], batch_size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    for rows in _batches(len(texts), batch_size):
        yield encoder.encode_text(encoder.tokenize(texts[rows.start : rows.stop]).to(device)).float().cpu()


def _batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
