"""Exact cosines: a ranking that block size, thread count and device cannot change.

A float matrix product rounds differently for different block shapes, so two identical rows may score
differently and a tie may be broken by accident. Here unit rows are rounded to whole multiples of 2**-26
(finer than the error of a float32 product). All partial sums of such a product are whole numbers of at most
about 2**52, which float64 holds exactly: equal rows tie, and the order of summation is irrelevant.
"""

from collections.abc import Callable

import torch

GRID = 2.0**26
CHECKED_ROWS = 8192


def check_rows(embeddings: torch.Tensor, name: str, *, describe: Callable[[int], str] | None = None) -> None:
    """Checks that every row of embeddings [N, D] has a direction.

    Args:
        embeddings: Floating point.
        name: What the error calls them.
        describe: Says in words where a row is; by default its index.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If the shape is not [N, D] with N and D positive, or a row is zero, infinite or NaN.
    """
    if not embeddings.is_floating_point():
        raise TypeError(f"The {name} embeddings must be floating point. Got {embeddings.dtype} instead.")
    if embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f"The {name} embeddings must have shape [N, D] and not be empty. Got {list(embeddings.shape)} instead."
        )
    parts = embeddings.detach().split(CHECKED_ROWS)  # float64 norms without a float64 copy of everything
    norms = torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts])
    unusable = ~(torch.isfinite(norms) & (norms > 0))
    if unusable.any():
        row = int(unusable.nonzero()[0])
        where = describe(row) if describe else f"row {row}"
        raise ValueError(
            f"The {name} embeddings must have rows with a finite norm above 0. "
            f"Got norm {float(norms[row])} at {where} ({int(unusable.sum())} such rows)."
        )


def grid_rows(embeddings: torch.Tensor) -> torch.Tensor:
    """Returns unit rows as whole multiples of 2**-26: float64 of shape [N, D], in units of the grid.

    The product of two such matrices is the cosine times 2**52, exact and independent of the order of
    summation; its distance from the cosine of the unrounded rows is about 1e-8.
    """
    rows = embeddings.detach().double()
    return torch.round(rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True) * GRID)
