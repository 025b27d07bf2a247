"""What training took, from its history: time, steps to convergence, FLOPs, memory, energy, trainable parameters.

A run has converged at the first step whose smoothed loss is within a tolerance of the best smoothed loss of the run. It
is the validation loss where that was evaluated three times or more, smoothed over three; otherwise the training loss,
smoothed over a twentieth of the steps. FLOPs count a multiply-add as two.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

TOLERANCE = 0.01
EVALUATIONS, TRAINING_SHARE = 3, 20  # what a loss is smoothed over: three values, or the steps divided by 20
FACTS = ("step_flops", "peak_bytes", "energy_joules", "trainable_parameters")
SUMMED = ("seconds", "steps", "seconds_to_convergence", "steps_to_convergence", "step_flops", "total_flops")
FLOP_CONVENTION = "2 per multiply-add, forward and backward of one step, element-wise operations not counted"
NO_ENERGY = (
    "no energy counter could be read: a CPU's is /sys/class/powercap/intel-rapl:*/energy_uj, often readable by root "
    "alone; a GPU's needs the package nvidia-ml-py"
)


def training_cost(history: pd.DataFrame, *, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Returns what one training run took; what its history does not hold is left out, with a reason.

    Args:
        history: One row a step: ``step``, ``loss``, ``seconds`` since the loop (re)started, and where it was evaluated
            ``val_loss``; its first row also has ``step_flops``, its last ``peak_bytes``, ``energy_joules`` and
            ``trainable_parameters``.
        tolerance: Relative distance from the best loss that counts as converged.

    Returns:
        ``seconds``, ``steps``, ``steps_to_convergence``, ``seconds_to_convergence``, ``step_flops``, ``total_flops``,
        ``peak_bytes``, ``energy_joules``, ``trainable_parameters`` under ``scores``; ``converged_by`` (which loss, or
        None), ``flop_convention`` and ``unavailable``. A run without steps has no scores.

    Raises:
        ValueError: If the tolerance is negative.
    """
    if tolerance < 0:
        raise ValueError(f"The tolerance of convergence must be 0 or greater. Got {tolerance} instead.")
    if history.empty:
        return {"scores": {}, "unavailable": {"all": "nothing was trained"}}
    elapsed = _elapsed_seconds(history["seconds"].to_numpy(dtype=float))
    scores: dict[str, float] = {"steps": len(history), "seconds": float(elapsed[-1])}
    loss, row = _converged(history, tolerance)
    if row is not None:
        scores |= {"steps_to_convergence": row + 1, "seconds_to_convergence": float(elapsed[row])}
    stated = {name: history[name].dropna() for name in FACTS if name in history}
    scores |= {name: float(values.iloc[-1]) for name, values in stated.items() if len(values)}
    if "step_flops" in scores:
        scores["total_flops"] = scores["step_flops"] * len(history)
    unavailable = {name: "the history does not hold it" for name in FACTS if name not in scores}
    if "energy_joules" in unavailable:
        unavailable["energy_joules"] = NO_ENERGY
    return {
        "scores": scores,
        "converged_by": None if loss is None else f"{loss} within {100 * tolerance:g} % of its best",
        "flop_convention": FLOP_CONVENTION,
        "unavailable": unavailable,
    }


def total_cost(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns what several trainings took one after the other: sums, of FLOPs a step too, and the largest memory.

    Args:
        parts: As ``training_cost`` returns them; one without steps took nothing.
    """
    trained = [part["scores"] for part in parts if part["scores"]]
    if not trained:
        return {"scores": {}, "unavailable": {"all": "nothing was trained"}}
    combine: dict[str, Callable[[list[float]], float]] = dict.fromkeys(SUMMED, sum) | {"peak_bytes": max}
    lacking = {name: "a training's history does not hold it" for name in combine if any(name not in s for s in trained)}
    known = {name: how([scores[name] for scores in trained]) for name, how in combine.items() if name not in lacking}
    return {"scores": known, "unavailable": lacking}


def _elapsed_seconds(seconds: np.ndarray) -> np.ndarray:
    restarts = np.flatnonzero(np.diff(seconds) < 0)  # each resumption starts the loop's clock at 0 again
    before = np.zeros(len(seconds))
    for last in restarts:
        before[last + 1 :] += seconds[last]
    return seconds + before


def _converged(history: pd.DataFrame, tolerance: float) -> tuple[str | None, int | None]:
    """Returns the loss that tells, and the row at which it had converged; None where none is finite."""
    evaluated = history["val_loss"].dropna() if "val_loss" in history else pd.Series(dtype=float)
    name, values, window = "val_loss", evaluated, EVALUATIONS
    if len(evaluated) < EVALUATIONS:
        name, values, window = "loss", history["loss"], max(1, len(history) // TRAINING_SHARE)
    smooth = values.replace([np.inf, -np.inf], np.nan).rolling(window, min_periods=1).mean().dropna()
    if smooth.empty:
        return None, None
    best = smooth.min()
    first = smooth.index[smooth <= best + tolerance * abs(best)][0]
    return name, int(history.index.get_loc(first))
