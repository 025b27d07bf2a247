"""What moves the weights, and until when: AdamW, learning-rate schedules by name, early stopping.

The schedules are our own: transformers' and timm's start a warm-up at 0, so that their first step trains nothing, and
count the steps of a restart otherwise; their numbers are not these.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch


def build_adamw(
    parameters: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]], *, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Returns AdamW over the parameters, or over groups of them; weight decay is always explicit.

    All tensors are updated in one kernel, which takes a quarter of the time on a CPU (mini GPT-2: 1.6 ms for 6 ms).
    """
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def trainable_parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """Returns what an optimizer updates, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


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
        steps: Length of the whole run.
        warmup_steps: Linear warm-up at its start.
        restarts: Number of equally long cosine cycles; SGDR's T_0 is then ``steps / restarts``, T_mult 1.
        floor: Where a cosine ends, as a share of where it starts.

    Raises:
        ValueError: If the kind is unknown.
    """
    cycle = max(1, math.ceil((steps - warmup_steps) / restarts))  # rounded up: or a last short cycle would begin
    after_warmup = {
        "constant": lambda step: 1.0,
        "linear": lambda step: max(0.0, 1 - step / max(1, steps - warmup_steps)),
        "cosine": lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step % cycle) / cycle)),
    }
    if kind not in after_warmup:
        raise ValueError(f"The schedule must be one of {sorted(after_warmup)}. Got {kind!r} instead.")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps  # the first step has a rate above 0, the last of the warm-up the full one
        return after_warmup[kind](step - warmup_steps)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@dataclass
class EarlyStopping:
    """Evaluates a validation loss now and then, and remembers the weights of the best evaluation.

    Attributes:
        validate: Returns the validation loss; lower is better. It must not change the model.
        every: Steps between two evaluations.
        patience: Evaluations without a better loss before training stops, or None to evaluate and never stop.
        best: The lowest loss so far.
        best_step: Steps taken when it was found.
        worse_count: Evaluations since.
    """

    validate: Callable[[], float]
    every: int
    patience: int | None
    best: float = math.inf
    best_step: int = 0
    worse_count: int = 0
    _best_weights: list[torch.Tensor] = field(default_factory=list)

    def is_due(self, step: int, steps: int) -> bool:
        """Says whether to evaluate after this many steps; always after the last."""
        return step % self.every == 0 or step == steps

    def evaluate(self, step: int, parameters: list[torch.nn.Parameter]) -> float:
        """Validates after ``step`` steps and returns the loss; one that is not finite is never the best."""
        loss = self.validate()
        if loss < self.best:  # false for NaN, too
            self.best, self.best_step, self.worse_count = loss, step, 0
            self._best_weights = [parameter.detach().clone() for parameter in parameters]
        else:
            self.worse_count += 1
        return loss

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.worse_count >= self.patience

    def restore(self, parameters: list[torch.nn.Parameter]) -> None:
        """Puts the best weights back, when training is to stop on a validation loss."""
        if self.patience is None:
            return
        for parameter, best in zip(parameters, self._best_weights, strict=bool(self._best_weights)):
            parameter.data.copy_(best)

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Returns what a resumed run must know: numbers, and the best weights by name."""
        # "bad_looks" is what checkpoints on disk call the count.
        facts = {"best": self.best, "best_step": self.best_step, "bad_looks": self.worse_count}
        return facts, {f"best.{index}": tensor for index, tensor in enumerate(self._best_weights)}

    def load_state(self, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.best, self.best_step, self.worse_count = facts["best"], facts["best_step"], facts["bad_looks"]
        self._best_weights = [tensors[f"best.{index}"] for index in range(len(tensors))]
