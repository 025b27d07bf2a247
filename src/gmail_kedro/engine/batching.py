"""Which rows a training step sees: pure functions of the step's index, so a resumed run sees the same batches."""

import numpy as np


def batch_rows(index: int, *, count: int, batch_size: int, seed: int) -> np.ndarray:
    """Returns the rows of one step: each epoch is a fresh permutation, its incomplete last batch left out.

    Args:
        index: The step.
        count: Number of rows.
        batch_size: Rows a step; all rows where there are fewer.
        seed: Seeds the permutations.
    """
    size = min(batch_size, count)
    per_epoch = count // size
    epoch, position = divmod(index, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return order[position * size : (position + 1) * size]


def unique_batch_rows(index: int, groups: np.ndarray, *, batch_size: int, seed: int) -> np.ndarray:
    """Returns the rows of one step in which no group occurs twice: an epoch visits every group once.

    Args:
        index: The step.
        groups: The group of each row, numbers from 0 without a hole, of shape [N].
        batch_size: Rows a step; one row of each group where there are fewer groups.
        seed: Seeds the order of the groups, and which of a group's rows is taken.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    chosen = batch_rows(index, count=len(sizes), batch_size=batch_size, seed=seed)
    picks = np.random.default_rng((seed, 1, index)).integers(0, sizes[chosen])
    return order[starts[chosen] + picks]


def unseen_rows(groups: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns the candidates in order, with only the first row of every group kept.

    Args:
        groups: The group of each row, of shape [N].
        candidates: Row numbers.
    """
    _, first = np.unique(groups[candidates], return_index=True)
    return candidates[np.sort(first)]


def mixed_rows(count: int, real_fraction: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows taken as real and rows taken as generated, as many of both as the share allows.

    With 0.5 these are all rows twice.

    Args:
        count: Number of pairs.
        real_fraction: Share of real rows, in [0, 1].
        seed: Seeds the choice where one side gives only some of its rows.
    """
    rng, larger = np.random.default_rng((seed, 21)), max(real_fraction, 1 - real_fraction)
    sizes = [round(count * share / larger) for share in (real_fraction, 1 - real_fraction)]
    real, generated = (np.sort(rng.permutation(count)[:size]) for size in sizes)
    return real, generated
