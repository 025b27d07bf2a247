"""Neighbourhoods: do the two clouds mix, and does a map leave its own cloud's neighbours where they were?

Exact, chunk by chunk. Unit rows are rounded to whole multiples of 2**-26, so that cosines are exact in float64
and neither the chunk size nor the order of summation can break a tie. Inputs are as in ``gap``; ``chunk_rows`` rows are
compared with all others at once.
"""

from collections.abc import Iterator

import torch

from gmail_kedro.method.unit_rows import unit_clouds, unit_rows

GRID = 2.0**26  # products, and their sums over unit rows, stay within 2**52: float64 holds them exactly
CHUNK_ROWS = 1024


def knn_mixing(
    generated: torch.Tensor, real: torch.Tensor, *, neighbour_count: int = 20, chunk_rows: int = CHUNK_ROWS
) -> float:
    """Returns the share of nearest neighbours that are of the other modality, averaged over all rows of both clouds.

    Near 0.5 for two equally large clouds [N, D] and [M, D] that lie in one another, 0 for clouds apart. Neighbours are
    by cosine, the row itself excluded. Rows that tie for the last places share them.

    Raises:
        ValueError: If the widths differ, a row is zero or not finite, or k is not between 1 and N + M - 1.
    """
    clouds = unit_clouds(generated, real)
    _check_count(neighbour_count, len(clouds[0]) + len(clouds[1]))
    is_real = torch.zeros(len(clouds[0]) + len(clouds[1]), dtype=torch.bool, device=clouds[0].device)  # [N + M]
    is_real[len(clouds[0]) :] = True
    total = 0.0
    for rows, cosines in _cosine_chunks(torch.cat(clouds), chunk_rows):
        weights = _neighbour_weights(rows, cosines, neighbour_count)  # [B, N + M]
        total += float((weights * (is_real[rows, None] != is_real[None, :])).sum())
    return total / neighbour_count / len(is_real)


def neighbour_overlap(
    before: torch.Tensor, after: torch.Tensor, *, neighbour_count: int = 20, chunk_rows: int = CHUNK_ROWS
) -> float:
    """Returns Omega_k: the mean share of its k nearest neighbours that a row [N, D] keeps under a map to [N, E].

    Raises:
        ValueError: If the row counts differ, a row is zero or not finite, or k is not between 1 and N - 1.
    """
    first, second = _same_rows(before, after)
    _check_count(neighbour_count, len(first))
    total = 0.0
    for rows, cosines, moved in _cosines_of_both(first, second, chunk_rows):
        weights = [_neighbour_weights(rows, side, neighbour_count) for side in (cosines, moved)]
        total += float(torch.minimum(*weights).sum())
    return total / neighbour_count / len(first)


def similarity_correlation(before: torch.Tensor, after: torch.Tensor, *, chunk_rows: int = CHUNK_ROWS) -> float:
    """Returns Psi: the correlation of the cosines of all pairs of rows, before [N, D] and after a map [N, E].

    Where one side's cosines do not vary there is nothing to keep: 0.

    Raises:
        ValueError: If the row counts differ, there is one row, or a row is zero or not finite.
    """
    first, second = _same_rows(before, after)
    if len(first) < 2:
        raise ValueError("The similarity_correlation needs at least 2 rows. Got 1 instead.")
    sums = torch.zeros(5, dtype=torch.float64)
    for rows, cosines, moved in _cosines_of_both(first, second, chunk_rows):
        others = torch.ones_like(cosines, dtype=torch.bool)
        others[torch.arange(len(rows), device=rows.device), rows] = False
        x, y = cosines[others], moved[others]
        sums += torch.stack([x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]).cpu()
    x_mean, y_mean, xx, yy, xy = (sums / (len(first) * (len(first) - 1))).tolist()
    variances = xx - x_mean**2, yy - y_mean**2
    if min(variances) <= 1e-14:  # rounding of a difference of two numbers near 1
        return 0.0
    return (xy - x_mean * y_mean) / (variances[0] * variances[1]) ** 0.5


def source_preservation(before: torch.Tensor, after: torch.Tensor, *, neighbour_count: int = 20) -> dict[str, float]:
    """Returns how much of its own geometry a cloud [N, D] keeps under alignment (arXiv 2605.07825).

    ``preserved_cosine`` is Phi, the mean cosine of a row with itself, ``preserved_similarity`` Psi and
    ``preserved_neighbours`` Omega_k, with k at most all other rows.

    Raises:
        ValueError: If the shapes differ, there is one row, or a row is zero or not finite.
    """
    first, second = unit_clouds(before, after)
    similarity = similarity_correlation(before, after)
    return {
        "preserved_cosine": float((first * second).sum(dim=1).mean()),
        "preserved_similarity": similarity,
        "preserved_neighbours": neighbour_overlap(before, after, neighbour_count=min(neighbour_count, len(first) - 1)),
    }


def _cosine_chunks(unit: torch.Tensor, chunk_rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields row numbers [B] and their cosines with all rows, themselves included, [B, N]."""
    grid = torch.round(unit * GRID)
    for start in range(0, len(grid), chunk_rows):
        rows = torch.arange(start, min(start + chunk_rows, len(grid)), device=grid.device)
        yield rows, (grid[rows] @ grid.T) / GRID**2


def _cosines_of_both(
    first: torch.Tensor, second: torch.Tensor, chunk_rows: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields row numbers [B] and their cosines before and after a map, [B, N] each."""
    chunks = zip(_cosine_chunks(first, chunk_rows), _cosine_chunks(second, chunk_rows), strict=True)
    for (rows, cosines), (_, moved) in chunks:
        yield rows, cosines, moved


def _neighbour_weights(rows: torch.Tensor, cosines: torch.Tensor, neighbour_count: int) -> torch.Tensor:
    """Returns the weight of every row as a neighbour, [B, N]: 1 or 0, and a fraction where rows tie for the end."""
    others = cosines.clone()
    others[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    last = others.topk(neighbour_count, dim=1).values[:, -1:]  # [B, 1]
    above, tied = others > last, others == last
    places = neighbour_count - above.sum(dim=1, keepdim=True)  # left for those that tie, [B, 1]
    return above.double() + tied * (places / tied.sum(dim=1, keepdim=True))


def _same_rows(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = unit_rows(before, "first"), unit_rows(after, "mapped")
    if len(rows[0]) != len(rows[1]):
        raise ValueError(f"A map keeps the number of rows. Got {len(rows[0])} before and {len(rows[1])} after it.")
    return rows


def _check_count(neighbour_count: int, row_count: int) -> None:
    if not 1 <= neighbour_count < row_count:
        raise ValueError(
            f"The neighbour_count must be at least 1 and less than the number of rows, {row_count}. "
            f"Got {neighbour_count} instead."
        )
