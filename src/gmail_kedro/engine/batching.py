"""Which rows a training step sees."""

import numpy as np


def batch_rows(index: int, *, count: int, batch_size: int, seed: int) -> np.ndarray:
    """Returns the rows of one step: each epoch is a fresh permutation, its incomplete last batch left out.

    A pure function of its arguments, so a resumed run sees the same batches.

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
