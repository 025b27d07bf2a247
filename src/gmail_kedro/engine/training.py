"""A whole training run from its plan: optimizer, schedule, arithmetic, progress bar, loop, and what was skipped."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.cost import CostMeter
from gmail_kedro.engine.early_stopping import EarlyStopping
from gmail_kedro.engine.loop import History, StepFunction, fit
from gmail_kedro.engine.optim import build_adamw, build_schedule
from gmail_kedro.engine.progress import step_progress
from gmail_kedro.hardware import fast_arithmetic

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast a model is trained.

    Attributes:
        title: What is being trained, for the progress bar.
        steps: Optimizer steps.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        clip_norm: Largest gradient norm.
        schedule: ``constant``, ``linear`` or ``cosine``.
        warmup_steps: Linear warm-up, in steps.
        restarts: Equally long cosine cycles.
        floor: Where a cosine ends, as a share of the learning rate.
    """

    title: str
    steps: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    schedule: str
    warmup_steps: int
    restarts: int = 1
    floor: float = 0.0


def train(
    step: StepFunction,
    parameters: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
    plan: TrainingPlan,
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    precision: str,
    early_stopping: EarlyStopping | None = None,
    statistics: Iterable[torch.Tensor] = (),
) -> History:
    """Trains, going on from the checkpoint where there is one; the last row also says what it cost (``cost.py``).

    Args:
        step: Maps a step's index to its losses.
        parameters: What is trained, or the optimizer's groups of it with learning rates of their own.
        plan: How long and how fast.
        checkpoint: Where training state is kept.
        device: Where the model is.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        early_stopping: Looks at validation now and then.
        statistics: What a forward pass changes; put back if a step is skipped.

    Raises:
        FloatingPointError: If too many steps had a loss that was not finite; the last checkpoint is kept.
    """
    optimizer = build_adamw(parameters, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    schedule = build_schedule(
        optimizer,
        kind=plan.schedule,
        steps=plan.steps,
        warmup_steps=plan.warmup_steps,
        restarts=plan.restarts,
        floor=plan.floor,
    )
    meter, count = CostMeter(device), float(sum(parameter.numel() for parameter in trained))
    logger.info("%s: %d parameters are trained", plan.title, count)
    with fast_arithmetic(device, precision=precision), step_progress(plan.title, plan.steps) as on_step:
        history = fit(
            step,
            optimizer,
            schedule,
            steps=plan.steps,
            clip_norm=plan.clip_norm,
            checkpoint=checkpoint,
            early_stopping=early_stopping,
            on_step=on_step,
            around_first_step=meter.counting_flops(),
            statistics=statistics,
            at_end=lambda: meter.facts() | {"trainable_parameters": count},
        )
    if history.skipped_count:
        logger.warning("%s: %d steps were skipped; their loss was not finite", plan.title, history.skipped_count)
    return history
