"""Handwriting for the mini world: scikit-learn's 1,797 scanned digits, split so that test writing is unseen."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SPLIT_SIZES = {"train": 1197, "val": 200, "test": 400}
SPLIT_SEED = 20250  # fixed: what weights were trained on must never become test handwriting


@dataclass(frozen=True)
class Scans:
    """Scanned digits of one split.

    Attributes:
        strokes: Ink coverage of shape [N, 8, 8], float32 in [0, 1].
        values: The digit each scan shows, of shape [N], int64 in 0..9.
        by_value: For each digit, the positions of its scans in ``strokes``.
    """

    strokes: np.ndarray
    values: np.ndarray
    by_value: tuple[np.ndarray, ...]


@lru_cache(maxsize=3)
def load_scans(split: str) -> Scans:
    """Returns the scans of one split; the three splits share no scan.

    Args:
        split: ``train``, ``val`` or ``test``.

    Raises:
        ValueError: If the split is not one of the three.
    """
    if split not in SPLIT_SIZES:
        raise ValueError(f"The split of load_scans must be one of {list(SPLIT_SIZES)}. Got {split!r} instead.")
    from sklearn.datasets import load_digits

    strokes, values = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(values))
    ends = dict(zip(SPLIT_SIZES, np.cumsum(list(SPLIT_SIZES.values())), strict=True))
    chosen = order[ends[split] - SPLIT_SIZES[split] : ends[split]]
    values = values[chosen].astype(np.int64)
    return Scans(
        strokes=(strokes[chosen] / 16.0).reshape(-1, 8, 8).astype(np.float32),
        values=values,
        by_value=tuple(np.flatnonzero(values == digit) for digit in range(10)),
    )
