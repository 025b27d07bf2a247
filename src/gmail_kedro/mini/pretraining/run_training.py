"""One stage of pre-training on the CPU, or what an interrupted one has left."""

import logging
from collections.abc import Callable

import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import StepFunction, fit, log_losses
from gmail_kedro.hardware import fast_arithmetic

logger = logging.getLogger(__name__)


def run_training(
    step: StepFunction,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    *,
    name: str,
    steps: int,
    every: int = 100,
    clip_norm: float = 1.0,
    checkpoint: Checkpoint | None = None,
    after_step: Callable[[int], None] | None = None,
) -> None:
    """Trains for a number of steps.

    Args:
        step: Maps a step's index to its losses.
        optimizer: Updates its own parameters.
        schedule: Its learning rate.
        name: What is trained, for the log.
        steps: Counted from 0 even when the training goes on from its checkpoint.
        every: Steps between two lines of the log.
        clip_norm: Largest Euclidean norm of the gradient.
        checkpoint: Where the training state is kept; None for what takes a minute.
        after_step: Called with the index after every step.
    """
    log = log_losses(logger, name, every=every)

    def on_step(index: int, row: dict[str, float]) -> None:
        if after_step is not None:
            after_step(index)
        log(index, row)

    with fast_arithmetic(torch.device("cpu"), precision="auto"):
        fit(step, optimizer, schedule, steps=steps, clip_norm=clip_norm, checkpoint=checkpoint, on_step=on_step)
