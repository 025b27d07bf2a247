"""Where every table is built, cell by cell: ours with its interval, its difference from the compared row, the paper's.

The frame that ``build_cells`` returns is the one model of the tables: ``tables.parquet``, tables.md, the report, its
verdicts and the notebook are all made from it. What was not run is in it too, with the reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.comparison import (
    NOTHING,
    SAME_ROW,
    Number,
    difference,
    differing_protocol,
    mean_over_seeds,
)
from gmail_kedro.reporting.finished_runs import FinishedRun, find_runs
from gmail_kedro.reporting.plain_text import interval_text, markdown, markdown_table
from gmail_kedro.reporting.table_definitions import OURS_FROM, Column, Row, Table

OF_PROFILE = "repro_"
RESAMPLES = 1000  # half of a study's: there are hundreds of cells
LINEAGE = ("corpus", "split", "encoder", "generator", "generated_set")
Runs = Mapping[int, FinishedRun]


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

    @cache  # most runs are rows of several tables
    def runs_of(name: str, only: tuple[int, ...] | None) -> Runs:
        return find_runs(folder, name, seeds if only is None else only)

    cells = []
    for table in tables:
        for row in table.rows.values():
            runs, baseline = runs_of(row.run, row.seeds), table.rows.get(row.against)
            baseline_runs = {} if baseline is None else runs_of(baseline.run, baseline.seeds)
            for index, column in enumerate(row.columns):
                about = {"table": table.number, "title": table.title, "row": row.name, "column": column.name}
                cell = _cell(row, index, runs, baseline, baseline_runs)
                if not runs and not row.blocked:
                    cell["reason"] = _missing_command(row, folder, seeds)
                cells.append(about | cell)
    return pd.DataFrame(cells)


def _cell(row: Row, index: int, runs: Runs, baseline: Row | None, baseline_runs: Runs) -> dict[str, Any]:
    column, paper = row.columns[index], row.paper[index]
    numbers, reason = _find_numbers(row, column, runs)
    ours = mean_over_seeds(list(numbers.values()), count=RESAMPLES)
    effect, paper_effect = NOTHING, np.nan
    if baseline is not None:
        theirs = {seed: run.find(baseline.columns[index]) for seed, run in baseline_runs.items()}
        effect, why_not = difference(*_pair(numbers, theirs, by_seed=row.seeds is None), count=RESAMPLES)
        paper_effect, reason = paper - baseline.paper[index], reason or why_not
    if numbers:  # from other seeds, or without a difference: what is damaged is told all the same
        damage = [run.damage for run in (*runs.values(), *baseline_runs.values())]
        reason = "; ".join(dict.fromkeys(filter(None, [reason, *damage])))
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
        "paper_effect": paper_effect,
        "run": row.run,
        "run_ids": ",".join(runs[seed].run_id for seed in numbers),
        "seed_count": len(numbers),
        "status": "run" if numbers else "blocked",
        "reason": reason,
        **_lineage(list(numbers.values())),
        "git_commit": _joined(runs[seed].receipt.get("git_commit") for seed in numbers),
    }


def _find_numbers(row: Row, column: Column, runs: Runs) -> tuple[dict[int, Number], str]:
    """Returns the numbers that may stand together in a cell, by seed, or none and why."""
    found = {seed: run.find(column) for seed, run in runs.items()}
    numbers = {seed: number for seed, number in found.items() if number.value is not None}
    if not numbers:
        return {}, row.blocked or next((number.reason for number in found.values()), "")
    first, *others = [number.protocol for number in numbers.values()]
    if apart := [name for name in SAME_ROW if any(differing_protocol(first, other, [name]) for other in others)]:
        return {}, f"the seeds of this row were measured differently in {', '.join(apart)}; run them again"
    return numbers, ""


def _pair(
    ours: Mapping[int, Number], theirs: Mapping[int, Number], *, by_seed: bool
) -> tuple[list[Number], list[Number]]:
    """Returns both sides seed by seed; rows of given seeds (seed 1 against seed 0) are paired in their order."""
    if by_seed:
        pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours) if seed in theirs]
    else:
        pairs = list(zip(ours.values(), theirs.values(), strict=False))
    known = [pair for pair in pairs if pair[1].value is not None]
    return [first for first, _ in known], [second for _, second in known]


def _missing_command(row: Row, folder: Path, seeds: Sequence[int]) -> str:
    profile = folder.name.partition(OF_PROFILE)[2]
    option = f" --env {profile}" if profile else ""
    return f"not run: gmail-kedro run {row.run} --seed {(row.seeds or seeds)[0]}{option}"


def _lineage(numbers: Sequence[Number]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: _joined(number.protocol.get(name) for number in numbers) for name in LINEAGE}
    counts = {number.protocol.get("generated_image_count") for number in numbers}
    return facts | {"generated_image_count": float(next(iter(counts)) or np.nan) if len(counts) == 1 else np.nan}


def _joined(values: Iterable[Any]) -> str:
    return ",".join(dict.fromkeys(str(value) for value in values if value is not None))


def tables_markdown(cells: pd.DataFrame, notes: Mapping[int, str], laws: Sequence[str]) -> str:
    """Returns all tables in Markdown: rows down, columns across; ours with its interval, the paper's number beside it.

    Args:
        cells: As ``build_cells`` returns them.
        notes: What a table's rows stand for, by its number.
        laws: Sentences on the fitted laws.
    """
    run = int((cells["status"] == "run").sum())
    lines = [
        "# The tables, ours beside the paper's",
        "",
        f"{run} of {len(cells)} cells were run. A cell: ours [95 % interval] (difference from the compared row "
        "[its interval], paired by image and seed); after the bar the paper's number (its difference). "
        "↓: lower is better. —: was not run, for the reason below the table.",
    ]
    for number, table in cells.groupby("table", sort=True):
        lines += ["", *_table_lines(int(number), table, notes.get(int(number), ""))]
    return "\n".join([*lines, "", "## Fitted laws", "", *(f"- {markdown(law)}" for law in laws)]) + "\n"


def _table_lines(number: int, table: pd.DataFrame, note: str) -> list[str]:
    columns = table.drop_duplicates("column")[["column", "higher_is_better"]].to_numpy()
    heads = [markdown(name if higher else f"{name} ↓") for name, higher in columns]
    rows = []
    for name, cells in table.groupby("row", sort=False):
        first = cells.iloc[0]
        named = [markdown(text) for text in (name, first["against"] or "—", first["run"])]
        rows.append([*named, str(first["seed_count"]), *(_cell_text(cell) for _, cell in cells.iterrows())])
    blocked = table[table["status"] == "blocked"].groupby("reason", sort=False)["column"]
    reasons = [f"- — in {markdown(', '.join(sorted(set(names))))}: {markdown(reason)}" for reason, names in blocked]
    return [
        f"## Table {number}. {markdown(table['title'].iloc[0])}" + (" (ours)" if number >= OURS_FROM else ""),
        "",
        markdown(note),
        "",
        *markdown_table(["row", "compared with", "run", "seeds", *heads], rows),
        *([""] if reasons else []),
        *reasons,
    ]


def _cell_text(cell: "pd.Series[Any]") -> str:
    paper = "" if np.isnan(cell["paper"]) else f" \\| {cell['paper']:g}"
    if paper and not np.isnan(cell["paper_effect"]):
        paper += f" ({cell['paper_effect']:+.3g})"
    if cell["status"] == "blocked":
        return f"—{paper}"
    digits = 2 if abs(cell["ours"]) >= 5 else 3
    text = f"{cell['ours']:.{digits}f}{interval_text(cell['low'], cell['high'], f'.{digits}f')}"
    if not np.isnan(cell["effect"]):
        between = interval_text(cell["effect_low"], cell["effect_high"], f"+.{digits}f")
        text += f" ({cell['effect']:+.{digits}f}{between})"
    return text + paper
