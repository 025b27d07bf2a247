"""Stops training when validation no longer improves, and puts the best weights back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class EarlyStopping:
    """Looks at a validation loss now and then, and remembers the weights of the best look.

    Attributes:
        validate: Returns the validation loss; lower is better. It must not change the model.
        every: Steps between two looks.
        patience: Looks without a better loss before training stops, or None to look and never stop.
        best: The lowest loss so far.
        best_step: Steps taken when it was seen.
        bad_looks: Looks since.
    """

    validate: Callable[[], float]
    every: int
    patience: int | None
    best: float = math.inf
    best_step: int = 0
    bad_looks: int = 0
    _kept: list[torch.Tensor] = field(default_factory=list)

    def is_due(self, step: int, steps: int) -> bool:
        """Says whether to look after this many steps; always after the last."""
        return step % self.every == 0 or step == steps

    def look(self, step: int, parameters: list[torch.nn.Parameter]) -> float:
        """Validates after ``step`` steps and returns the loss; a loss that is not finite is a bad look."""
        loss = self.validate()
        if loss < self.best:
            self.best, self.best_step, self.bad_looks = loss, step, 0
            self._kept = [parameter.detach().clone() for parameter in parameters]
        else:
            self.bad_looks += 1
        return loss

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad_looks >= self.patience

    def restore(self, parameters: list[torch.nn.Parameter]) -> None:
        """Puts the best weights back, when training is to stop on a validation loss."""
        if self.patience is None:
            return
        for parameter, kept in zip(parameters, self._kept, strict=bool(self._kept)):
            parameter.data.copy_(kept)

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Returns what a resumed run must know: numbers, and the best weights by name."""
        facts = {"best": self.best, "best_step": self.best_step, "bad_looks": self.bad_looks}
        return facts, {f"best.{index}": tensor for index, tensor in enumerate(self._kept)}

    def load_state(self, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.best, self.best_step, self.bad_looks = facts["best"], facts["best_step"], facts["bad_looks"]
        self._kept = [tensors[f"best.{index}"] for index in range(len(tensors))]
