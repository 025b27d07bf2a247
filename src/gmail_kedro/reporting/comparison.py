"""Ours minus a baseline, with its paired 95 % interval: the one computation behind tables, studies and `compare`.

Numbers are paired by training seed and, where both sides have scores image by image, by image: what two systems find
hard alike cancels out. Over one seed, images are resampled (``metrics.statistics.paired_difference``); over several,
seeds and images, crossed (``crossed_difference``). What was measured in different ways has no difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.metrics.statistics import (
    Interval,
    bootstrap_interval,
    crossed_difference,
    paired_difference,
    permutation_p_value,
)
from gmail_kedro.reporting.plain_text import interval_text, markdown, markdown_table

# Rows of a table may differ in encoder or set, as that is what they compare; seeds of one row may not differ in the
# encoder, and runs in one column of the summary in neither.
SAME_MEASUREMENT = ("corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer")
SAME_ROW = (*SAME_MEASUREMENT, "encoder")
SAME_COLUMN = (*SAME_ROW, "generated_set")

RESAMPLES, PERMUTATIONS, SEED = 2000, 10_000, 0
NOTHING = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Number:
    """One number of one run."""

    value: float | None = None  # the score, in the column's unit; None where it is not there
    interval: tuple[float, float] | None = None  # its 95 % interval within the run, or None
    items: "pd.Series[float] | None" = None  # the score image by image, by `image_id`, or None
    protocol: Mapping[str, Any] = field(default_factory=dict)  # how it was measured, and what the run was made from
    reason: str = ""  # why there is no value


def differing_protocol(
    first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str] = SAME_COLUMN
) -> list[str]:
    """Returns in what two runs were measured differently; no number may stand for, or beside, both.

    Args:
        first: The ``protocol`` of one run.
        second: That of the other.
        names: What must be the same.
    """
    return [name for name in names if first.get(name) != second.get(name)]


def mean_over_seeds(numbers: Sequence[Number], *, count: int = RESAMPLES) -> Interval:
    """Returns the mean of one number for each seed: its interval is over images in one run, over both in several.

    Args:
        numbers: One a seed, each with a value.
        count: Resamples.
    """
    if not numbers:
        return NOTHING
    values = np.array([number.value for number in numbers], dtype=float)  # [S]
    items = _shared_items(numbers)
    if len(numbers) == 1:
        if numbers[0].interval is not None:  # the run's own knows which items belong together
            return Interval(float(values[0]), *numbers[0].interval)
        around = NOTHING if items is None else bootstrap_interval(items[0], count=count, seed=SEED)
    else:
        table = values[:, None] if items is None else items  # [S, N], seeds by images
        around = crossed_difference(table, np.zeros_like(table), count=count, seed=SEED)
    return Interval(float(values.mean()), around.low, around.high)


def difference(ours: Sequence[Number], baseline: Sequence[Number], *, count: int = RESAMPLES) -> tuple[Interval, str]:
    """Returns the mean of ours minus the baseline's with its interval, or no number and the reason.

    One number on each side has a difference, but no interval.

    Args:
        ours: One number a seed, each with a value.
        baseline: The compared system's, seed by seed.
        count: Resamples.
    """
    pairs = list(zip(ours, baseline, strict=True))
    if not pairs:
        return NOTHING, ""
    if apart := differing_protocol(ours[0].protocol, baseline[0].protocol, SAME_MEASUREMENT):
        return NOTHING, f"not compared: the rows were measured differently in {', '.join(apart)}"
    if any(_are_of_other_images(*pair) for pair in pairs):
        return NOTHING, "not compared: the rows were measured on different images"
    mean = float(np.mean([_value(first) - _value(second) for first, second in pairs]))
    items = _shared_items([*ours, *baseline])
    if items is not None:
        first, second = np.split(items, 2)  # [S, N] each
    elif len(pairs) == 1:
        return Interval(mean, np.nan, np.nan), ""
    else:
        first, second = (np.array([[_value(number)] for number in side]) for side in (ours, baseline))  # [S, 1]
    if len(pairs) == 1:
        around = paired_difference(first[0], second[0], count=count, seed=SEED)
    else:
        around = crossed_difference(first, second, count=count, seed=SEED)
    return Interval(mean, around.low, around.high), ""


def _value(number: Number) -> float:
    if number.value is None:
        raise ValueError(f"A number that is not there cannot be compared: {number.reason}.")
    return number.value


def _are_of_other_images(first: Number, second: Number) -> bool:
    return first.items is not None and second.items is not None and set(first.items.index) != set(second.items.index)


def _shared_items(numbers: Sequence[Number]) -> np.ndarray | None:
    """Returns scores image by image, [len(numbers), N], or None where one has none or they are of other images."""
    tables = [number.items for number in numbers if number.items is not None]
    if len(tables) < len(numbers):
        return None
    frame = pd.concat(tables, axis=1)  # one row an image, whatever the order of each run's
    return None if frame.isna().any(axis=None) else frame.to_numpy().T


def compare_two_runs(items: pd.DataFrame, baseline_items: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Tests, measure by measure, whether a run of one seed differs from another on the same images.

    Args:
        items: The run's scores: ``image_id``, ``measure``, ``value``.
        baseline_items: The other's, measured in the same way; a measure on other images is left out.

    Returns:
        For each measure the number of images, both means, their difference with its interval, and the p-value of a
        paired permutation test.
    """
    first, second = _by_measure(items), _by_measure(baseline_items)
    tests = {}
    for measure in [name for name in first if name in second]:
        pair = [first[measure], second[measure]]
        between, why_not = difference(pair[:1], pair[1:])
        if why_not:
            continue
        a, b = (number.items.to_numpy() for number in pair if number.items is not None)  # [N] each
        tests[measure] = {
            "image_count": len(a),
            "run": pair[0].value,
            "baseline": pair[1].value,
            # The mean of the differences, which rounds otherwise than the difference of the means.
            "difference": asdict(replace(between, mean=float((a - b).mean()))),
            "p_value": permutation_p_value(a, b, count=PERMUTATIONS, seed=SEED),
        }
    return tests


def _by_measure(items: pd.DataFrame) -> dict[str, Number]:
    numbers = {}
    for measure, column in items.pivot(index="image_id", columns="measure", values="value").items():
        values = column.dropna()  # ordered by image, so that row i is one image on both sides
        numbers[str(measure)] = Number(float(values.to_numpy().mean()), items=values)
    return numbers


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """Returns the tests of two runs in Markdown.

    Args:
        comparison: ``run`` and ``baseline`` by name, and the ``tests``.
    """
    run, baseline = markdown(comparison["run"]), markdown(comparison["baseline"])
    rows = []
    for measure, test in comparison["tests"].items():
        by = test["difference"]
        between = f"{by['mean']:+.2f}{interval_text(by['low'], by['high'], '+.2f')}"
        means = [f"{test['baseline']:.1f}", f"{test['run']:.1f}"]
        rows.append([markdown(measure), str(test["image_count"]), *means, between, f"{test['p_value']:.4f}"])
    lines = [
        f"# {run} against {baseline}",
        "",
        "Paired over the same images: difference with its 95 % bootstrap interval, and the p-value of a paired "
        f"permutation test, not corrected for the {len(comparison['tests'])} measures. **One training seed each**: "
        "this says nothing about other seeds; `gmail-kedro study` does.",
        "",
        *markdown_table(["measure", "images", baseline, run, "difference", "p"], rows),
    ]
    return "\n".join(lines) + "\n"
