"""Rows of norm 1: what every loss and every measure here compares.

Losses take ``normalize_rows``, in float32 and with a gradient. Measures take the checked ``unit_rows``, in float64:
means over many rows need more digits than float32 has, and a row of zeros would become a number that looks like one.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F


def normalize_rows(embeddings: torch.Tensor) -> torch.Tensor:
    """Returns rows [N, D] of norm 1, in float32 or wider whatever the input's precision."""
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.normalize(wide, dim=-1)


def unit_rows(embeddings: torch.Tensor, name: str) -> torch.Tensor:
    """Returns float64 rows [N, D] of norm 1, without a gradient.

    Args:
        embeddings: Of shape [N, D], any norm.
        name: What the message calls them.

    Raises:
        ValueError: If the shape is not [N, D] with N and D positive, or a row is zero or not finite.
    """
    if embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f"The {name} embeddings must have shape [N, D] and not be empty. Got {list(embeddings.shape)} instead."
        )
    rows = embeddings.detach().double()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # [N, 1]
    unusable = ~(torch.isfinite(norms) & (norms > 0)).squeeze(1)  # [N]
    if unusable.any():
        row = int(unusable.nonzero()[0])
        raise ValueError(
            f"The {name} embeddings must have rows with a finite norm above 0. "
            f"Got norm {float(norms[row])} at row {row} ({int(unusable.sum())} such rows)."
        )
    return rows / norms


def unit_clouds(generated: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the unit rows [N, D] and [M, D] of two clouds.

    Raises:
        ValueError: If the widths differ, or a row is zero or not finite.
    """
    rows = unit_rows(generated, "generated"), unit_rows(real, "real")
    widths = [side.shape[1] for side in rows]
    if widths[0] != widths[1]:
        raise ValueError(
            f"Generated and real embeddings must have the same width. Got {widths[0]} and {widths[1]} instead."
        )
    return rows


def unit_pairs(generated: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the unit rows of both sides of N pairs, [N, D] each.

    Raises:
        ValueError: If the shapes differ, or a row is zero or not finite.
    """
    if generated.shape != real.shape:
        raise ValueError(
            "Pairs need generated and real embeddings of the same shape. "
            f"Got {list(generated.shape)} and {list(real.shape)} instead."
        )
    return unit_rows(generated, "generated"), unit_rows(real, "real")


def group_numbers(groups: Sequence[str] | np.ndarray, pair_count: int) -> np.ndarray:
    """Returns the real image of each pair as a number from 0, int64 of shape [N].

    Raises:
        ValueError: If there is not one group for each pair.
    """
    names = np.asarray(groups)
    if names.shape != (pair_count,):
        raise ValueError(f"There must be one group for each of the {pair_count} pairs. Got shape {list(names.shape)}.")
    return np.unique(names, return_inverse=True)[1]
