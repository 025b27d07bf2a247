"""Preprocessed pictures by row: decoded on all cores, ahead of their step, and kept in memory when they fit."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource, ImageTextEncoder

MEMORY_LIMIT_BYTES = 2 << 30


class PixelBatches:
    """Preprocessed pictures by row.

    Args:
        encoder: Whose preprocessing is applied.
        source: Where the encoded pictures are; read from several threads at once.
        keys: The picture of each row.
    """

    def __init__(self, encoder: ImageTextEncoder, source: ImageSource, keys: Sequence[str]) -> None:
        self._encoder, self._source, self._keys = encoder, source, list(keys)
        self._unique_count = len(set(self._keys))
        self._kept: dict[str, torch.Tensor] = {}
        self._coming: dict[str, Future[torch.Tensor]] = {}
        first = self._load(self._keys[0])
        self._keeps = first.numel() * first.element_size() * self._unique_count <= MEMORY_LIMIT_BYTES
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: Iterable[int]) -> torch.Tensor:
        """Returns float32 [B, 3, H, W] of the rows.

        Raises:
            ValueError: If a picture cannot be decoded; names it.
        """
        rows = [int(row) for row in rows]
        self.announce(rows)
        pictures = {key: self._kept.get(key) for key in dict.fromkeys(self._keys[row] for row in rows)}
        for key, picture in pictures.items():
            if picture is None:
                pictures[key] = self._coming.pop(key).result()
        if self._keeps:
            self._kept |= {key: picture for key, picture in pictures.items() if picture is not None}
        return torch.stack([pictures[self._keys[row]] for row in rows])  # type: ignore[misc]

    def announce(self, rows: Iterable[int]) -> None:
        """Starts to decode rows in the background, so that they are there when they are asked for.

        Args:
            rows: Those of the next batch; what is announced and never asked for stays in memory.
        """
        if len(self._kept) == self._unique_count:
            return
        for key in dict.fromkeys(self._keys[int(row)] for row in rows):
            if key not in self._kept and key not in self._coming:
                self._coming[key] = self._pool.submit(self._load, key)

    def _load(self, key: str) -> torch.Tensor:
        return self._encoder.preprocess(decode_image(self._source.read(key), name=key))
