"""Runs an encoder over images and texts, batch by batch, with what was computed before read from a store.

Features are named by all they depend on: the encoder's weights, the precision, the items and their contents. So nothing
ever has to be thrown away, and a changed image or adapter can never be read as the old one.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from gmail_kedro.engine.batches import PixelBatches
from gmail_kedro.engine.distributed import JobMapper, job_mapper, map_here
from gmail_kedro.hardware import fast_arithmetic, resolve_device, resolve_precision
from gmail_kedro.interfaces import ImageSource, ImageTextEncoder
from gmail_kedro.params.run import RunParams
from gmail_kedro.whole_files import read_tensors, write_tensors

logger = logging.getLogger(__name__)

Encode = Callable[[ImageTextEncoder, Sequence[str], int, torch.device], Iterator[torch.Tensor]]
VIEWS: dict[str, Callable[[ImageTextEncoder, torch.Tensor], torch.Tensor]] = {
    "embedding": lambda encoder, images: encoder.encode_image(images),  # [B, D]
    "pooled": lambda encoder, images: encoder.pool_image(images)[0],  # [B, W]
    "patch_mean": lambda encoder, images: encoder.pool_image(images)[1].mean(dim=1),  # [B, P, W'] to [B, W']
}
CHUNK_BATCHES = 32  # of a part that is stored when it is finished: at most so much is computed again after a kill
REMEDY = "They are computed anew."


@dataclass(frozen=True)
class FeatureStore:
    """A folder of cached features.

    Attributes:
        folder: One safetensors file an entry, with its checksum; the name is a hash of what the entry depends on.
    """

    folder: Path

    def get_or_compute(self, facts: dict[str, str], rows: int, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Returns the stored features of ``facts``, or computes and stores them.

        A stored entry is used only if every byte is as it was written (a second for each gigabyte) and it is of these
        facts; any other is reported, computed anew and replaced.

        Args:
            facts: Everything the features depend on: weights hash, precision, keys and content hash.
            rows: Number of rows that are expected.
            compute: Makes the features, float32 [rows, D].

        Raises:
            ValueError: If computed features are not finite or are zero.
        """
        path = self._path(facts)
        if path.exists():
            features = _read(path, facts, rows)
            if features is not None:
                logger.info("Features of %d items reused from %s", rows, path.name)
                return features
        features = compute()
        _write(path, facts, features)
        shutil.rmtree(self.parts_of(facts), ignore_errors=True)  # after the whole entry is on disk
        return features

    def parts_of(self, facts: dict[str, str]) -> Path:
        """Returns the folder of the finished parts of an entry that is being computed."""
        return self._path(facts).with_suffix(".parts")

    def read_parts(self, facts: dict[str, str], sizes: Sequence[int]) -> list[torch.Tensor]:
        """Returns an entry's finished parts, up to the first that is missing, damaged or has not its size in rows."""
        found: list[torch.Tensor] = []
        for number, rows in enumerate(sizes):
            path = self._part(facts, number)
            part = _read(path, facts, rows) if path.exists() else None
            if part is None:
                break
            found.append(part)
        if found:
            logger.info("Encoding goes on after %d of %d parts that were finished before", len(found), len(sizes))
        return found

    def write_part(self, facts: dict[str, str], number: int, features: torch.Tensor) -> None:
        """Keeps a finished part of an entry.

        Raises:
            ValueError: If its features are not finite or are zero.
        """
        _write(self._part(facts, number), facts, features)

    def _path(self, facts: dict[str, str]) -> Path:
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / f"{name}.safetensors"

    def _part(self, facts: dict[str, str], number: int) -> Path:
        return self.parts_of(facts) / f"{number:06d}.safetensors"


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

    def open(self) -> tuple[ImageTextEncoder, torch.device]:
        """Returns the encoder and the device of the process that calls."""
        device = resolve_device(self.device)
        return self.build(device), device


@dataclass(frozen=True)
class Encoding:
    """How images and texts are encoded in a run.

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


def run_encoding(
    feature_store: Path, run: RunParams, build: Callable[[torch.device], ImageTextEncoder] | None = None
) -> Encoding:
    """Returns how a run encodes; with ``build``, which builds its encoder on a device, maybe on other machines."""
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
    """Returns features of images, float32 [N, ...], not normalised; repeated calls read the store.

    Args:
        encoder: The frozen teacher, or a student with its adapter merged.
        source: Where the encoded images are.
        keys: Which images, in order; one that occurs twice is encoded once.
        encoding: Store, batch size, device and precision.
        view: ``embedding`` [N, D], ``pooled`` [N, W] (before the projection) or ``patch_mean`` [N, W'].

    Raises:
        ValueError: If the view is unknown, or the encoder is the route of the other modality.
    """
    guard_route(encoder, source)
    if view not in VIEWS:
        raise ValueError(f"The view of an image must be one of {sorted(VIEWS)}. Got {view!r} instead.")
    encode = partial(_encode_images, source=source, view=view)
    return _encode_unique(encoder, keys, encode, encoding, kind=view, read=partial(stamp, source))


def encode_texts(encoder: ImageTextEncoder, texts: Sequence[str], encoding: Encoding) -> torch.Tensor:
    """Returns embeddings of texts, float32 [N, D], not normalised; repeated texts are encoded once."""
    return _encode_unique(encoder, texts, _encode_texts, encoding, kind="text", read=lambda _: b"")


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


def stamp(source: ImageSource, key: str) -> bytes:
    """Returns what tells an image from another: the whole image, unless the source's method ``stamp`` knows it."""
    known = getattr(source, "stamp", None)
    return source.read(key) if known is None else known(key).encode()


def hash_items(keys: Sequence[str], read: Callable[[str], bytes]) -> str:
    """Returns a sha256 over keys and contents, in order; one content is held at a time."""
    digest = hashlib.sha256()
    for key in keys:
        content = read(key)
        digest.update(f"{key}\x00{len(content)}\x00".encode())
        digest.update(content)
    return digest.hexdigest()


def _encode_unique(
    encoder: ImageTextEncoder,
    items: Sequence[str],
    encode: Encode,
    encoding: Encoding,
    *,
    kind: str,
    read: Callable[[str], bytes],
) -> torch.Tensor:
    unique = list(dict.fromkeys(items))  # a real image stands in as many pairs as it has captions
    facts = {
        "kind": kind,
        "encoder": encoder.fingerprint,
        "precision": encoding.precision,
        "items": hash_items(unique, read),
    }
    compute = partial(_encode_parts, encoder, unique, encode, encoding, facts)
    features = encoding.store.get_or_compute(facts, len(unique), compute)
    row_of = {item: row for row, item in enumerate(unique)}
    return features[[row_of[item] for item in items]]


def _encode_parts(
    encoder: ImageTextEncoder, items: Sequence[str], encode: Encode, encoding: Encoding, facts: dict[str, str]
) -> torch.Tensor:
    """Encodes what no earlier run has, here or elsewhere, and keeps each part when it is finished."""
    # Parts are whole batches: wherever they are encoded, an item has the same neighbours and so the same last bits.
    size = encoding.batch_size * CHUNK_BATCHES
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    parts = encoding.store.read_parts(facts, [len(chunk) for chunk in chunks])
    unfinished = chunks[len(parts) :]
    remote = encoding.remote
    open_encoder = (lambda: (encoder, encoding.device)) if remote is None else remote.open
    build_worker = partial(_build_worker, open_encoder, encode, encoding.batch_size, encoding.precision)
    map_jobs = map_here if remote is None else remote.map_jobs
    computed = map_jobs(build_worker, unfinished) if unfinished else []
    bar = tqdm(computed, f"Encoding {len(items)} items", total=len(chunks), initial=len(parts), disable=None)
    for part in bar:
        if len(chunks) > 1:  # one alone is the entry itself
            encoding.store.write_part(facts, len(parts), part)
        parts.append(part)
    return torch.cat(parts)


def _build_worker(
    open_encoder: Callable[[], tuple[ImageTextEncoder, torch.device]], encode: Encode, batch_size: int, precision: str
) -> Callable[[Sequence[str]], torch.Tensor]:
    """Returns what encodes a chunk of items to float32 [N, ...] on the CPU; called in the process that does it."""
    encoder, device = open_encoder()

    def work(items: Sequence[str]) -> torch.Tensor:
        with torch.no_grad(), fast_arithmetic(device, precision=precision):
            return torch.cat(list(encode(encoder, items, batch_size, device)))

    return work


def _encode_images(
    encoder: ImageTextEncoder,
    keys: Sequence[str],
    batch_size: int,
    device: torch.device,
    *,
    source: ImageSource,
    view: str,
) -> Iterator[torch.Tensor]:
    pixels = PixelBatches(encoder.preprocess, source, keys, limit_bytes=0)  # each is asked for once
    for start in range(0, len(keys), batch_size):
        images = pixels.of(keys[start : start + batch_size]).to(device)  # [B, 3, H, W]
        pixels.prefetch(range(start + batch_size, min(start + 2 * batch_size, len(keys))))
        yield VIEWS[view](encoder, images).float().cpu()


def _encode_texts(
    encoder: ImageTextEncoder, texts: Sequence[str], batch_size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    for start in range(0, len(texts), batch_size):
        tokens = encoder.tokenize(texts[start : start + batch_size])  # [B, L]
        yield encoder.encode_text(tokens.to(device)).float().cpu()


def _write(path: Path, facts: dict[str, str], features: torch.Tensor) -> None:
    bad = _bad_rows(features)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(features)} feature rows are not finite or are zero (first: row "
            f"{int(bad.nonzero()[0])}). Check the weights, or set run.precision: float32."
        )
    write_tensors(path, {"features": features}, {"of": facts})


def _read(path: Path, facts: dict[str, str], rows: int) -> torch.Tensor | None:
    """Returns stored features, or None with a warning if they are damaged or were computed from anything else."""
    try:
        tensors, stored = read_tensors(path, remedy=REMEDY)
        _refuse_others(path, stored["of"], facts)
        features = tensors["features"]
        if features.dtype != torch.float32 or len(features) != rows or _bad_rows(features).any():
            raise ValueError(
                f"The cached features {path} should be {rows} finite float32 rows that are not zero. Got "
                f"{features.dtype} {list(features.shape)}, {int(_bad_rows(features).sum())} of them not so. {REMEDY}"
            )
    except ValueError as error:
        logger.warning("%s", error)
        return None
    return features


def _refuse_others(path: Path, computed_from: dict[str, str], facts: dict[str, str]) -> None:
    for key in sorted(facts.keys() | computed_from.keys()):
        if facts.get(key) != computed_from.get(key):
            raise ValueError(
                f"The cached features {path} were computed from another {key}: {computed_from.get(key)!r} instead of "
                f"{facts.get(key)!r}. {REMEDY}"
            )


def _bad_rows(features: torch.Tensor) -> torch.Tensor:
    return ~torch.isfinite(features).all(1) | (features.norm(dim=1) == 0)  # neither has a direction
