"""What a frozen tower sees in pictures, token by token: computed when first asked for, and kept when all of it fits."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource

if TYPE_CHECKING:
    from PIL.Image import Image


class PatchTokens:
    """The tokens of pictures by row, in half precision whether they are kept or not.

    Args:
        source: Where the encoded pictures are.
        keys: The picture of each row; a picture that occurs twice is kept once.
        preprocess: Maps a picture to the tower's input [3, H, W].
        see: Maps inputs [B, 3, H, W] to tokens [B, P, W].
        limit_bytes: Most memory that all pictures' tokens may take; beyond it none are kept.
    """

    def __init__(
        self,
        source: ImageSource,
        keys: Sequence[str],
        *,
        preprocess: Callable[["Image"], torch.Tensor],
        see: Callable[[torch.Tensor], torch.Tensor],
        limit_bytes: int,
    ) -> None:
        self._source, self._keys, self._preprocess, self._see = source, list(keys), preprocess, see
        self._kept: dict[str, torch.Tensor] = {}
        self._limit_bytes, self._count = limit_bytes, len(set(self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: Iterable[int]) -> torch.Tensor:
        """Returns float16 [B, P, W] of the rows, on the CPU."""
        keys = [self._keys[int(row)] for row in rows]
        new = [key for key in dict.fromkeys(keys) if key not in self._kept]
        found = dict(zip(new, self._compute(new), strict=True)) if new else {}
        if found and self._fits(next(iter(found.values()))):
            self._kept |= found
        return torch.stack([found[key] if key in found else self._kept[key] for key in keys])

    @property
    def kept_count(self) -> int:
        """Number of pictures whose tokens are in memory."""
        return len(self._kept)

    def _compute(self, keys: Sequence[str]) -> list[torch.Tensor]:
        pixels = torch.stack([self._preprocess(decode_image(self._source.read(key), name=key)) for key in keys])
        return [tokens.clone() for tokens in self._see(pixels).half().cpu()]

    def _fits(self, tokens: torch.Tensor) -> bool:
        return self._count * tokens.numel() * tokens.element_size() <= self._limit_bytes
