"""What a training step sees: which rows, what is random about them, and their images.

Rows and random numbers are pure functions of the step's index, so a resumed run sees the same batches, whatever else
was drawn in between, and no loader's state is stored. Each use of chance is a stream with a name, so that a new use
moves no number of the others. The order of rows in an epoch (``batch_rows``) is seeded with the pair (seed, epoch) and
is no stream: the 22nd epoch shares its numbers with ``MIXED_ROWS`` without an index. Nor is torch's own generator,
which takes one number (initial weights, the captioner's dropout).

Images are decoded by threads ahead of their step: the decoders of PIL and torchvision release Python's lock, and a
process a worker would have to copy what is kept.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource

if TYPE_CHECKING:
    from PIL.Image import Image

MEMORY_LIMIT_BYTES = 2 << 30


class Stream(IntEnum):
    """What is drawn, by the number that stands for it in the seed; a name says at which index, where it has one.

    The values are part of what a seed means; changing one changes results. Four values serve two uses each, which then
    draw the same numbers: an accident, kept because the packaged weights and the published tables were made with it.
    """

    # Runs
    ROW_OF_GROUP = 1  # which of an image's captions a step shows
    MIXED_ROWS = 21  # which rows are real and which generated, where a consumer trains on both
    RETRIEVAL_NOISE = 30  # IFCap's, on the texts that retrieve others
    CAPTIONER_NOISE = 31  # IFCap's on a step's embeddings, and which of its entities are left out
    CONVERSATIONS = 71  # questions about a caption, and the order of the turns
    ALIGNMENT_DROPOUT = 72  # a step's, in the student's adapter and of its patches
    LANGUAGE_DROPOUT = 73  # a step's, in a vision-language model's LoRA

    # Pre-training of the mini models: a step's batch, or the texts that are written before the first step
    VAE = 1  # shared with ROW_OF_GROUP
    GENERATOR_PROMPTS = 2
    GENERATOR = 3
    CLIP = 4
    CLIP_TEXTS = 5
    DIGIT_READER = 6
    LANGUAGE_MODEL = 7
    LANGUAGE_MODEL_TEXTS = 8
    MEASURED_TUNING = 10  # of the encoder whose retrieval a card shows
    LATENT_READER = 11
    CLIP_VISION = 31  # shared with CAPTIONER_NOISE
    SHORT_CLIP = 41
    LONG_CLIP = 42
    WEB_TEXTS = 43
    LONG_CAPTIONS = 44
    TOKENIZER_TEXTS = 50
    LLAMA = 51
    SIGLIP_IMAGES = 51  # shared with LLAMA
    SIGLIP_TEXT_TOWER = 52
    SIGLIP_TEXTS = 53
    SYNCLR = 61
    QUESTIONS = 61  # the mini world's, by kind; shared with SYNCLR's first two steps
    SYNCLR_CAPTIONS = 62
    FLUX_VAE = 81
    FLUX_TEACHER = 82
    FLUX_GUIDANCE = 83


def stream_rng(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """Returns the generator of a stream, of one step or item where an index is given."""
    return np.random.default_rng((seed, stream, *index))


@contextlib.contextmanager
def seeded_dropout(seed: int, stream: Stream, index: int, *, device: torch.device) -> Iterator[None]:
    """Makes what dropout leaves out in step ``index`` a function of seed, stream and step, whatever came before."""
    # Seeded in each step and not once before the first: a checkpoint keeps the CPU's generator and no GPU's.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence((seed, stream, index)).generate_state(1)[0]))
        yield


def batch_rows(index: int, *, count: int, batch_size: int, seed: int) -> np.ndarray:
    """Returns the rows of step ``index``: each epoch is a fresh permutation, its incomplete last batch left out.

    Where there are fewer rows than ``batch_size``, a step sees all of them.
    """
    size = min(batch_size, count)
    per_epoch = count // size
    epoch, position = divmod(index, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return order[position * size : (position + 1) * size]


def unique_batch_rows(index: int, groups: np.ndarray, *, batch_size: int, seed: int) -> np.ndarray:
    """Returns the rows of step ``index``, no group twice: an epoch visits every group once, by one of its rows.

    Args:
        index: The step.
        groups: The group of each row, numbers from 0 without a hole, of shape [N].
        batch_size: Rows a step; one row of each group where there are fewer groups.
        seed: Seeds the order of the groups, and which of a group's rows is taken.
    """
    order = np.argsort(groups, kind="stable")  # rows, group by group
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    chosen = batch_rows(index, count=len(sizes), batch_size=batch_size, seed=seed)
    picks = stream_rng(seed, Stream.ROW_OF_GROUP, index).integers(0, sizes[chosen])
    return order[starts[chosen] + picks]


def unseen_rows(groups: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns the candidate rows in order, with only the first of every group kept; ``groups`` has all rows' [N]."""
    _, first = np.unique(groups[candidates], return_index=True)
    return candidates[np.sort(first)]


def mixed_rows(count: int, real_fraction: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows taken as real and rows taken as generated, as many as the share allows: with 0.5 all rows twice."""
    rng, larger = stream_rng(seed, Stream.MIXED_ROWS), max(real_fraction, 1 - real_fraction)
    sizes = [round(count * share / larger) for share in (real_fraction, 1 - real_fraction)]
    real, generated = (np.sort(rng.permutation(count)[:size]) for size in sizes)
    return real, generated


def split_rows(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Returns the rows in parts of at most ``size``."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class PixelBatches:
    """Preprocessed images by row: decoded on all cores, and kept in memory when all of them fit.

    Args:
        preprocess: Maps an image to the tower's input, float32 [3, H, W].
        source: Where the encoded images are; read from several threads at once.
        keys: The image of each row; one that occurs twice is decoded once.
        limit_bytes: Most memory that all images may take; beyond it none are kept.
    """

    def __init__(
        self,
        preprocess: Callable[["Image"], torch.Tensor],
        source: ImageSource,
        keys: Sequence[str],
        *,
        limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self.keys = list(keys)
        self._preprocess, self._source = preprocess, source
        self._kept = _TensorCache(len(set(self.keys)), limit_bytes)
        self._coming: dict[str, Future[torch.Tensor]] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: Iterable[int]) -> torch.Tensor:
        """Returns float32 [B, 3, H, W] of the rows.

        Raises:
            ValueError: If an image cannot be decoded; names it.
        """
        return self.of([self.keys[int(row)] for row in rows])

    def of(self, keys: Sequence[str]) -> torch.Tensor:
        """Returns float32 [B, 3, H, W] of images by key."""
        return self._kept.get_or_compute(keys, self._take)

    def prefetch(self, rows: Iterable[int]) -> None:
        """Starts to decode rows in the background; what is never asked for stays in memory."""
        self._start(dict.fromkeys(self.keys[int(row)] for row in rows))

    def _start(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key not in self._kept and key not in self._coming:
                self._coming[key] = self._pool.submit(self._load, key)

    def _take(self, keys: Sequence[str]) -> list[torch.Tensor]:
        self._start(keys)
        return [self._coming.pop(key).result() for key in keys]

    def _load(self, key: str) -> torch.Tensor:
        return self._preprocess(decode_image(self._source.read(key), name=key))


class FrozenActivations:
    """What frozen blocks make of images, by row: computed when first asked for, and kept when all of it fits.

    Args:
        pixels: The images; they need not be kept, for each is asked for once.
        run: Maps images [B, 3, H, W] on the CPU to activations [B, L, W] on any device.
        limit_bytes: Most memory that all activations may take; beyond it none are kept.
        dtype: What they are rounded to, whether they are kept or not.
        remedy: What to do where they do not fit; None: they are computed each time.
    """

    def __init__(
        self,
        pixels: PixelBatches,
        run: Callable[[torch.Tensor], torch.Tensor],
        *,
        limit_bytes: int = MEMORY_LIMIT_BYTES,
        dtype: torch.dtype = torch.float32,
        remedy: str | None = None,
    ) -> None:
        self._pixels, self._run, self._dtype = pixels, run, dtype
        self._kept = _TensorCache(len(set(pixels.keys)), limit_bytes, remedy)

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def kept_count(self) -> int:
        """Number of images whose activations are in memory."""
        return len(self._kept)

    def __getitem__(self, rows: Iterable[int]) -> torch.Tensor:
        """Returns the activations of the rows, [B, L, W], on the CPU.

        Raises:
            ValueError: If all of them would not fit and must; says how large they are.
        """
        return self._kept.get_or_compute([self._pixels.keys[int(row)] for row in rows], self._compute)

    def prefetch(self, rows: Iterable[int]) -> None:
        """Starts to decode those rows in the background whose activations are not known yet."""
        self._pixels.prefetch(row for row in rows if self._pixels.keys[int(row)] not in self._kept)

    @torch.no_grad()
    def _compute(self, keys: Sequence[str]) -> list[torch.Tensor]:
        return list(self._run(self._pixels.of(keys)).to(self._dtype).cpu())


class _TensorCache(dict[str, torch.Tensor]):
    """Tensors of one shape by key: all are kept, or none where all would take more than the limit."""

    def __init__(self, count: int, limit_bytes: int, remedy: str | None = None) -> None:
        super().__init__()
        self._count, self._limit_bytes, self._remedy = count, limit_bytes, remedy

    def get_or_compute(
        self, keys: Sequence[str], compute: Callable[[Sequence[str]], Sequence[torch.Tensor]]
    ) -> torch.Tensor:
        """Returns the tensors of the keys as one, [B, ...]; ``compute`` sees each new key once, in order."""
        new = [key for key in dict.fromkeys(keys) if key not in self]
        found = dict(zip(new, compute(new), strict=True)) if new else {}
        if found and self._fit(next(iter(found.values()))):
            self.update(found)
        return torch.stack([found[key] if key in found else self[key] for key in keys])

    def _fit(self, sample: torch.Tensor) -> bool:
        size = self._count * sample.numel() * sample.element_size()
        if size > self._limit_bytes and self._remedy is not None:
            raise ValueError(
                f"The activations of {self._count} images would take {size / 2**30:.1f} GiB; "
                f"{self._limit_bytes / 2**30:.0f} GiB are allowed. {self._remedy}"
            )
        return size <= self._limit_bytes
