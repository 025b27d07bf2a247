"""Large batches in little memory: the gradient of the whole batch from parts that fit.

A contrastive loss compares all rows of a batch, so that summing the losses of parts (plain gradient accumulation) would
lose the negatives between parts. Two ways keep the gradient exact:

- ``accumulate_gradients`` where no row's loss depends on another row's trained embedding, as in Eq. 1 against a frozen
  teacher: all candidates are constants, the parts' gradients add up, and one forward pass is enough.
- ``grad_cache`` for all other losses (moments, text contrasts, a moving real side): GradCache of Gao et al., "Scaling
  Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021). Embeddings first, without a graph; then the
  loss's gradient with respect to them; then every part once more, with that gradient as the start of its backward pass.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from gmail_kedro.engine.batches import split_rows

Views = Mapping[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
Embed = Callable[[np.ndarray], Views]


def accumulate_gradients(
    embed: Embed, losses: Callable[[Views, int], Losses], rows: np.ndarray, *, size: int
) -> Losses:
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
        share = len(part) / len(rows)  # the last part may be smaller: a mean of the parts' means would be wrong
        (found["loss"] * share).backward()
        for name, value in found.items():
            total[name] = value.detach() * share + total.get(name, 0.0)
        first += len(part)
    return total


def grad_cache(embed: Embed, losses: Callable[[Views], Losses], rows: np.ndarray, *, size: int) -> Losses:
    """Accumulates the gradient of any loss of the batch's embeddings.

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
    # Leaves of a graph that holds the loss alone: its backward pass also reaches parameters of the loss itself
    # (a learned temperature) directly.
    leaves = {name: torch.cat([view[name] for view in views]).requires_grad_() for name in views[0]}  # [B, ...]
    found = losses(leaves)
    found["loss"].backward()
    after, first = _random_state(), 0
    for part, state in zip(parts, states, strict=True):
        state.restore()  # or dropout would leave out other units than those the cached gradient belongs to
        again = embed(part)
        # A view may be constant (frozen text) or unused by the loss; neither has anything to pass on.
        moving = [name for name, leaf in leaves.items() if leaf.grad is not None and again[name].requires_grad]
        wanted = [leaves[name].grad[first : first + len(part)] for name in moving]  # type: ignore[index]
        torch.autograd.backward([again[name] for name in moving], wanted)
        first += len(part)
    after.restore()  # the next step draws as it would without a second pass
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
