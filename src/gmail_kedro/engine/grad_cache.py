"""Large batches in little memory: the gradient of the whole batch from parts that fit.

``one_pass`` is for losses whose rows do not see one another's embeddings, such as Eq. 1 against a frozen teacher:
the parts' gradients add up to the exact gradient in one forward pass. ``two_passes`` is for all others (moments,
text contrasts, a moving real side): embeddings first, their gradient, then every part once more.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

Views = Mapping[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
Embed = Callable[[np.ndarray], Views]


def split_rows(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Returns the rows in parts of at most ``size``."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def one_pass(embed: Embed, losses: Callable[[Views, int], Losses], rows: np.ndarray, *, size: int) -> Losses:
    """Accumulates the gradient of a loss that is a mean over independent rows.

    Args:
        embed: Maps a part's rows to embeddings by name.
        losses: Maps a part's embeddings, and the position of its first row in the batch, to losses; ``loss`` is
            the mean over the part's rows.
        rows: The batch.
        size: Rows of one part.

    Returns:
        The losses of the whole batch, without a graph.
    """
    total: Losses = {}
    first = 0
    for part in split_rows(rows, size):
        found = losses(embed(part), first)
        share = len(part) / len(rows)
        (found["loss"] * share).backward()
        for name, value in found.items():
            total[name] = value.detach() * share + total.get(name, 0.0)
        first += len(part)
    return total


def two_passes(embed: Embed, losses: Callable[[Views], Losses], rows: np.ndarray, *, size: int) -> Losses:
    """Accumulates the gradient of any loss of the batch's embeddings.

    Dropout repeats itself: each part's second pass starts from the random state of its first.

    Args:
        embed: Maps a part's rows to embeddings by name, each with one row an item.
        losses: Maps the whole batch's embeddings to losses.
        rows: The batch.
        size: Rows of one part.

    Returns:
        The losses, without a graph.
    """
    parts = split_rows(rows, size)
    states, views = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state())
            views.append(embed(part))
    leaves = {name: torch.cat([view[name] for view in views]).requires_grad_() for name in views[0]}
    found = losses(leaves)
    found["loss"].backward()
    after, first = _random_state(), 0
    for part, state in zip(parts, states, strict=True):
        state.restore()
        again = embed(part)
        moving = [name for name, leaf in leaves.items() if leaf.grad is not None and again[name].requires_grad]
        wanted = [leaves[name].grad[first : first + len(part)] for name in moving]  # type: ignore[index]
        torch.autograd.backward([again[name] for name in moving], wanted)
        first += len(part)
    after.restore()
    return {name: value.detach() for name, value in found.items()}


class _RandomState(NamedTuple):
    cpu: torch.Tensor
    cuda: list[torch.Tensor]

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


def _random_state() -> _RandomState:
    return _RandomState(torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])
