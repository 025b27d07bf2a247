"""The training loop: one for the alignment, the captioners and the pre-training of the mini models.

A trainer passes a ``step`` that maps the step's index to its losses. Because everything a step needs is
a function of that index (which batch, which noise), a resumed run is the same run. A step whose batch does not
fit into memory accumulates its gradient itself (``micro_batches.py``) and returns a loss without a graph.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.early_stopping import EarlyStopping
from gmail_kedro.engine.stopping import stopping_between_steps

logger = logging.getLogger(__name__)

StepFunction = Callable[[int], dict[str, torch.Tensor]]
NAN_LIMIT = 20


@dataclass
class History:
    """What a training run did, step by step.

    Attributes:
        rows: One dictionary a step: ``step``, ``loss`` and its terms, ``gradient_norm``, ``learning_rate``,
            ``seconds`` since the loop (re)started.
        skipped_count: Steps whose loss or gradient was not finite; they changed nothing.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    skipped_count: int = 0


def fit(
    step: StepFunction,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    *,
    steps: int,
    clip_norm: float,
    checkpoint: Checkpoint | None = None,
    early_stopping: EarlyStopping | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    around_first_step: contextlib.AbstractContextManager[dict[str, float]] | None = None,
    at_end: Callable[[], dict[str, float]] = dict,
    statistics: Iterable[torch.Tensor] = (),
) -> History:
    """Trains for a number of steps and returns the history.

    A training that has a checkpoint and is asked to stop (``stopping.py``) ends after the step it is in, with its state
    written: the bound is one step, a look at validation if it is due, and the writing.

    Args:
        step: Maps a step's index to its losses; the entry ``loss`` is minimised, the others are recorded.
        optimizer: Updates its own parameters.
        schedule: Stepped once after every optimizer step.
        steps: Number of steps of the whole run, counted from 0 even when it resumes.
        clip_norm: Largest Euclidean norm of the gradient.
        checkpoint: Where training state is kept; an interrupted run goes on from there.
        early_stopping: Looks at validation now and then; its loss is recorded as ``val_loss``.
        on_step: Called with the index and the row after every step.
        around_first_step: Entered for step 0, such as a counter of FLOPs; what it gives is recorded in that step's row.
            A run that goes on later does not enter it: it could change the last bits of the step.
        at_end: Called after the last step; what it gives is recorded in that step's row. A run whose last step was
            taken in another process does not call it.
        statistics: What a forward pass changes, such as a batch normalisation's means; put back if a step is skipped.

    Raises:
        Stopped: If the process was asked to stop.
        FloatingPointError: If more than ``NAN_LIMIT`` steps had a loss or gradient that was not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    history, first, statistics = History(), 0, list(statistics)
    if checkpoint is not None and checkpoint.exists():
        first, history.rows, history.skipped_count = checkpoint.load(optimizer, schedule, early_stopping)
    started = time.perf_counter()
    asks = contextlib.nullcontext(lambda: False) if checkpoint is None else stopping_between_steps()
    with asks as is_asked:
        for index in range(first, steps):
            if early_stopping is not None and early_stopping.is_over:
                break
            around = around_first_step if index == 0 and around_first_step else contextlib.nullcontext({})
            with around as facts:
                kept = [tensor.clone() for tensor in statistics]
                row = _take_step(step, index, optimizer, parameters, clip_norm, history)
                if not _is_finite(row):
                    for tensor, before in zip(statistics, kept, strict=True):
                        tensor.copy_(before)
            row |= facts
            row["learning_rate"] = float(schedule.get_last_lr()[0])
            schedule.step()
            if early_stopping is not None and early_stopping.is_due(index + 1, steps):
                row["val_loss"] = early_stopping.look(index + 1, parameters)
            history.rows.append(row | {"seconds": time.perf_counter() - started})
            is_last = index + 1 == steps or (early_stopping is not None and early_stopping.is_over)
            if is_last:
                history.rows[-1] |= at_end()
            if on_step is not None:
                on_step(index, history.rows[-1])
            if checkpoint is not None and (is_last or is_asked() or checkpoint.is_due(index + 1)):
                checkpoint.save(index + 1, optimizer, schedule, history.rows, history.skipped_count, early_stopping)
                if is_asked():
                    logger.warning(
                        "Training stopped after step %d of %d; its state: %s", index + 1, steps, checkpoint.path
                    )
                    break
    if early_stopping is not None:
        early_stopping.restore(parameters)
    return history


def _take_step(
    step: StepFunction,
    index: int,
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    clip_norm: float,
    history: History,
) -> dict[str, float]:
    """Takes one optimizer step, or skips and counts it when its loss or gradient is not finite."""
    optimizer.zero_grad(set_to_none=True)
    losses = step(index)
    if losses["loss"].requires_grad:
        losses["loss"].backward()
    gradient_norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_norm))
    row: dict[str, float] = {name: float(value.detach()) for name, value in losses.items()}
    row |= {"step": index, "gradient_norm": gradient_norm}
    if _is_finite(row):
        optimizer.step()
    else:
        history.skipped_count += 1
        _stop_if_hopeless(history.skipped_count, index)
    return row


def _is_finite(row: dict[str, float]) -> bool:
    return math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])


def _stop_if_hopeless(skipped_count: int, index: int) -> None:
    if skipped_count > NAN_LIMIT:
        raise FloatingPointError(
            f"Training stopped at step {index}: {skipped_count} steps had a loss or gradient that was not finite. "
            "Lower the learning rate or use precision: float32; the last checkpoint is kept."
        )
