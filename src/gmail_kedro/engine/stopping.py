"""How work ends before its last step: because the process is asked to stop, or because patience has run out.

A process that is asked to stop (SIGTERM, Ctrl-C) ends soon, with its state on disk, and says so. The exit code is 75,
"temporary failure": whoever started the command may give it again, and it goes on. A training whose validation loss
gets no better (``EarlyStopping``) ends with its best weights.
"""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

ASKING = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The process was asked to stop; the same command goes on."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)
        _tell("Stopped, as asked; what was done is kept. Go on with the same command.")


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """SIGTERM and Ctrl-C end its body with ``Stopped``, wherever it is; a second one ends the process at once."""

    # Raised in the middle of anything: what writes files does so under a temporary name, so nothing half is left.
    def stop() -> None:
        raise Stopped

    with _handling(ASKING, stop):
        yield


@contextlib.contextmanager
def stopping_between_steps() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether its body was asked to stop, by SIGTERM or Ctrl-C; a second one ends at once.

    Raises:
        Stopped: At the end of a body that was asked.
    """
    asked = threading.Event()

    def remember() -> None:
        asked.set()
        _tell("Stopping after this step. A second signal ends the process at once.")

    with _handling(ASKING, remember):
        yield asked.is_set
    if asked.is_set():
        raise Stopped


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


@contextlib.contextmanager
def _handling(signals: tuple[signal.Signals, ...], act: Callable[[], None]) -> Iterator[None]:
    """Acts on the first of the signals. What the starter of the process chose to ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # only there can it be done
        yield
        return
    owner, seen = os.getpid(), threading.Event()

    def handle(number: int, frame: object) -> None:
        is_worker = os.getpid() != owner  # a forked one has the handlers of this process
        if is_worker and number == signal.SIGINT:  # Ctrl-C reaches all; this process ends its workers itself
            return
        if is_worker or seen.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        seen.set()
        act()

    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _tell(text: str) -> None:
    """Writes to the terminal past all buffers: a handler runs in the middle of anything, of logging too."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
