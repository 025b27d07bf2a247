"""The output of the frozen blocks below the first adapter, computed once for every picture."""

from collections.abc import Callable, Iterable

import torch

from gmail_kedro.engine.image_batches import MEMORY_LIMIT_BYTES, PixelBatches


class PrefixBatches:
    """Like ``PixelBatches``, but what comes out has been through the frozen first blocks; computed when first seen.

    Args:
        pixels: The pictures.
        run_prefix: Maps images [B, 3, H, W] on the device to hidden states [B, L, W].
        device: Where the blocks are.

    Raises:
        ValueError: At the first batch, if all hidden states would not fit into memory; says how large they are.
    """

    def __init__(
        self, pixels: PixelBatches, run_prefix: Callable[[torch.Tensor], torch.Tensor], *, device: torch.device
    ) -> None:
        self._pixels, self._run_prefix, self._device = pixels, run_prefix, device
        self._known = torch.zeros(len(pixels), dtype=torch.bool)
        self._hidden = torch.empty(0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, rows: Iterable[int]) -> torch.Tensor:
        """Returns hidden states float32 [B, L, W] of the rows."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        unknown = index[~self._known[index]].unique()
        if len(unknown):
            self._compute(unknown)
        return self._hidden[index]

    def announce(self, rows: Iterable[int]) -> None:
        """Starts to decode those rows in the background that have not been through the blocks yet.

        Args:
            rows: Those of the next batch.
        """
        self._pixels.announce(row for row in rows if not self._known[row])

    def _compute(self, rows: torch.Tensor) -> None:
        with torch.no_grad():
            hidden = self._run_prefix(self._pixels[rows.tolist()].to(self._device)).float().cpu()
        if not self._hidden.numel():
            self._allocate(hidden)
        self._hidden[rows] = hidden
        self._known[rows] = True

    def _allocate(self, sample: torch.Tensor) -> None:
        size = len(self) * sample[0].numel() * sample.element_size()
        if size > MEMORY_LIMIT_BYTES:
            raise ValueError(
                f"alignment.cache_prefix would keep {size / 2**30:.1f} GiB for {len(self)} pictures; "
                f"{MEMORY_LIMIT_BYTES / 2**30:.0f} GiB are allowed. Set it to false."
            )
        self._hidden = torch.empty((len(self), *sample.shape[1:]))
