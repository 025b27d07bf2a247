"""The cells of the tables: ours with its interval, the difference from the compared row, the paper's numbers."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.metrics.statistics import Interval, bootstrap_interval, crossed_difference, paired_difference
from gmail_kedro.pipelines.reporting.finished_runs import FinishedRun, Found, finished_runs
from gmail_kedro.reporting.tables import Column, Row, Table

OF_PROFILE = "repro_"
RESAMPLES, SEED = 1000, 0
NOTHING = Interval(np.nan, np.nan, np.nan)
SAME = ("corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer")  # or no difference makes sense
FACTS = ("corpus", "split", "encoder", "generator", "generated_set")
Numbers = dict[int, Found]


def build_cells(tables: Sequence[Table], folder: Path, seeds: Sequence[int]) -> pd.DataFrame:
    """Returns one row a cell of every table, those that were not run with the reason.

    Args:
        tables: The tables.
        folder: Has a folder ``<run>-<seed>`` for each finished run; ``repro_<profile>`` where the profile has its own.
        seeds: The seeds that were asked for.

    Returns:
        ``table``, ``title``, ``row``, ``column``, ``higher_is_better``, ``ours``, ``low``, ``high``, ``paper``,
        ``against``, ``effect``, ``effect_low``, ``effect_high`` (ours minus the compared row), ``paper_effect``,
        ``run``, ``run_ids``, ``seed_count``, ``status`` (``run`` or ``blocked``), ``reason``, ``corpus``, ``split``,
        ``encoder``, ``generator``, ``generated_set``, ``generated_image_count`` (NaN where nobody says) and
        ``git_commit``.
    """

    @cache
    def runs_of(name: str, only: tuple[int, ...] | None) -> Mapping[int, FinishedRun]:
        return finished_runs(folder, name, list(seeds if only is None else only))

    cells = []
    for table in tables:
        for row in table.rows.values():
            other = table.rows.get(row.against)
            runs = runs_of(row.run, row.seeds)
            compared = {} if other is None else runs_of(other.run, other.seeds)
            for index, column in enumerate(row.columns):
                about = {"table": table.number, "title": table.title, "row": row.name, "column": column.name}
                theirs = None if other is None else (other.columns[index], other.paper[index], compared)
                cell = _cell(row, column, row.paper[index], runs, theirs)
                if not runs and not row.blocked:
                    cell["reason"] = _not_run(row, folder, seeds)
                cells.append(about | cell)
    return pd.DataFrame(cells)


def _not_run(row: Row, folder: Path, seeds: Sequence[int]) -> str:
    """Returns the command that is missing."""
    profile = folder.name.partition(OF_PROFILE)[2]
    option = f" --env {profile}" if profile else ""
    return f"not run: gmail-kedro run {row.run} --seed {(row.seeds or seeds)[0]}{option}"


def _cell(
    row: Row,
    column: Column,
    paper: float,
    runs: Mapping[int, FinishedRun],
    theirs: tuple[Column, float, Mapping[int, FinishedRun]] | None,
) -> dict[str, Any]:
    found = {seed: run.find(column) for seed, run in runs.items()}
    numbers = {seed: number for seed, number in found.items() if number.value is not None}
    apart = _apart([runs[seed].protocol(column) for seed in numbers], (*SAME, "encoder"))
    if apart:
        numbers = {}
    reason = "" if numbers else row.blocked or next((number.reason for number in found.values()), "")
    if apart:
        reason = f"the seeds of this row were measured differently in {', '.join(apart)}; run them again"
    ours, effect = _spread(numbers), NOTHING
    if theirs is not None and numbers:
        reason = _differing(column, runs, theirs[0], theirs[2])
        others = {seed: run.find(theirs[0]) for seed, run in theirs[2].items()}
        effect = NOTHING if reason else _difference(numbers, others, is_paired_by_seed=row.seeds is None)
    if numbers:
        every = [*runs.values(), *(theirs[2].values() if theirs else ())]
        reason = "; ".join(dict.fromkeys(filter(None, [reason, *(run.damage for run in every)])))
    used = [runs[seed] for seed in numbers]
    return {
        "higher_is_better": column.higher_is_better,
        "ours": ours.mean,
        "low": ours.low,
        "high": ours.high,
        "paper": paper,
        "against": row.against,
        "effect": effect.mean,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "paper_effect": np.nan if theirs is None else paper - theirs[1],
        "run": row.run,
        "run_ids": ",".join(run.run_id for run in used),
        "seed_count": len(numbers),
        "status": "run" if numbers else "blocked",
        "reason": reason,
    } | _lineage(column, used)


def _spread(numbers: Numbers) -> Interval:
    """Returns the mean over seeds with its interval: over images in one run, over seeds and images in several."""
    if not numbers:
        return NOTHING
    values = np.array([number.value for number in numbers.values()])
    items = _shared_items(list(numbers.values()))
    if len(values) == 1:
        (number,) = numbers.values()
        if number.interval is not None:
            return Interval(values[0], *number.interval)
        around = NOTHING if items is None else bootstrap_interval(items[0], count=RESAMPLES, seed=SEED)
    else:
        array = values[:, None] if items is None else items
        around = crossed_difference(array, np.zeros_like(array), count=RESAMPLES, seed=SEED)
    return Interval(float(values.mean()), around.low, around.high)


def _difference(ours: Numbers, theirs: Numbers, *, is_paired_by_seed: bool) -> Interval:
    """Returns ours minus theirs, paired by seed and, where both have scores image by image, by image."""
    if is_paired_by_seed:
        seeds = sorted(seed for seed in ours if seed in theirs and theirs[seed].value is not None)
        pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    else:
        pairs = [pair for pair in zip(ours.values(), theirs.values(), strict=False) if pair[1].value is not None]
    if not pairs:
        return NOTHING
    mean = float(np.mean([first.value - second.value for first, second in pairs]))  # type: ignore[operator]
    items = _shared_items([number for pair in pairs for number in pair])
    if items is None and len(pairs) == 1:
        return Interval(mean, np.nan, np.nan)
    if items is None:
        first, second = (np.array([[number.value] for number in side]) for side in zip(*pairs, strict=True))
    else:
        first, second = items[0::2], items[1::2]
    if len(pairs) == 1:
        around = paired_difference(first[0], second[0], count=RESAMPLES, seed=SEED)
    else:
        around = crossed_difference(first, second, count=RESAMPLES, seed=SEED)
    return Interval(mean, around.low, around.high)


def _shared_items(numbers: Sequence[Found]) -> np.ndarray | None:
    """Returns scores image by image, [len(numbers), N], or None where one has none or they are of other images."""
    tables = [number.items for number in numbers]
    if any(table is None for table in tables):
        return None
    frame = pd.concat([table for table in tables if table is not None], axis=1)
    return None if frame.isna().any(axis=None) else frame.to_numpy().T


def _differing(
    column: Column, runs: Mapping[int, FinishedRun], other: Column, compared: Mapping[int, FinishedRun]
) -> str:
    """Returns in what the two rows were measured differently, as a reason for no difference, or ``""``."""
    sides = [(runs, column), (compared, other)]
    first, second = (next((run.protocol(at) for run in side.values() if not run.damage), None) for side, at in sides)
    if first is None or second is None:
        return ""
    apart = _apart([first, second], SAME)
    return f"not compared: the rows were measured differently in {', '.join(apart)}" if apart else ""


def _apart(protocols: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Returns in which of the names the protocols differ: no number may stand for, or beside, both."""
    return [name for name in names if any(other.get(name) != protocols[0].get(name) for other in protocols[1:])]


def _lineage(column: Column, used: Sequence[FinishedRun]) -> dict[str, Any]:
    protocols = [run.protocol(column) for run in used]
    facts: dict[str, Any] = {name: _together(protocol.get(name) for protocol in protocols) for name in FACTS}
    counts = {protocol.get("generated_image_count") for protocol in protocols}
    facts["generated_image_count"] = float(next(iter(counts)) or np.nan) if len(counts) == 1 else np.nan
    return facts | {"git_commit": _together(run.receipt.get("git_commit") for run in used)}


def _together(values: Any) -> str:
    return ",".join(dict.fromkeys(str(value) for value in values if value is not None))
