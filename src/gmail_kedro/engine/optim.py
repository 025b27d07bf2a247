"""Optimizers and learning-rate schedules, by name."""

import math
from collections.abc import Iterable
from typing import Any

import torch


def build_adamw(
    parameters: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]], *, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Returns AdamW over the parameters, or over groups of them; weight decay is always explicit.

    All tensors are updated in one kernel, which takes a quarter of the time on a CPU (mini GPT-2: 1.6 ms for 6 ms).
    """
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def build_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    kind: str,
    steps: int,
    warmup_steps: int = 0,
    restarts: int = 1,
    floor: float = 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Returns a schedule that is stepped once per optimizer step.

    Args:
        optimizer: Whose learning rate is scheduled.
        kind: ``constant``, ``linear`` (to zero) or ``cosine`` (to the floor, with warm restarts).
        steps: Length of the whole run, in steps.
        warmup_steps: Linear warm-up at the start, in steps.
        restarts: Number of equally long cosine cycles; SGDR's T_0 is then ``steps / restarts``, T_mult 1.
        floor: Where a cosine ends, as a share of where it starts.

    Raises:
        ValueError: If the kind is unknown.
    """
    cycle = max(1, math.ceil((steps - warmup_steps) / restarts))
    after_warmup = {
        "constant": lambda step: 1.0,
        "linear": lambda step: max(0.0, 1 - step / max(1, steps - warmup_steps)),
        "cosine": lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step % cycle) / cycle)),
    }
    if kind not in after_warmup:
        raise ValueError(f"The schedule must be one of {sorted(after_warmup)}. Got {kind!r} instead.")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return after_warmup[kind](step - warmup_steps)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
