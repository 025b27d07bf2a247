"""Nodes of the pipelines `tables` and `report`: every table of the paper and our own, the fitted laws, the page.

They are apart from the nodes of a run, so that an edit here makes no run stale (``commands.code_lists``).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.params.report import ReportParams

CEILING = 100.0  # recalls are percentages; what falls with the size of a set is their distance from it


def fill_tables(table_definitions: dict[str, Any], seeds: dict[str, list[int]], finished_runs: Path) -> pd.DataFrame:
    """Returns one row a cell of every table; see ``build_cells``."""
    from gmail_kedro.reporting.paper_tables import build_cells
    from gmail_kedro.reporting.table_definitions import read_tables

    return build_cells(read_tables(table_definitions), finished_runs, seeds["seeds"])


def fit_laws(table_definitions: dict[str, Any], tables: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame]:
    """Fits a power law of 100 - score over the size of the generated set to the columns that ask for one.

    Returns:
        For each table and column the law, or why there is none; and the points, one row a size, a column a measure.
    """
    laws, points = {}, []
    for number, columns in table_definitions["laws"].items():
        cells = tables[(tables["table"] == number) & (tables["status"] == "run")]
        laws[str(number)] = {name: _law(cells[cells["column"] == name]) for name in columns}
        measured = cells[cells["column"].isin(columns)]
        points.append(measured.pivot_table(index="generated_image_count", columns="column", values="ours"))
    return laws, pd.concat(points).reset_index()


def _law(cells: pd.DataFrame) -> dict[str, Any]:
    from gmail_kedro.metrics.scaling import CONFIDENCE_Z, fit_power_law

    known = cells[cells["low"] < cells["high"]]  # a point without an interval has no weight in the fit
    sizes = known["generated_image_count"].to_numpy()
    if len(np.unique(sizes)) < 3:  # two points lie on any law
        return {"claim": f"no law: {len(np.unique(sizes))} sizes were measured with an interval, it takes three"}
    errors = CEILING - known["ours"].to_numpy()
    deviations = (known["high"] - known["low"]).to_numpy() / (2 * CONFIDENCE_Z)
    if (errors <= 0).any():
        return {"claim": "no law: a score is at its ceiling"}
    law = fit_power_law(sizes, errors, deviations)
    between = f"{law.exponent:.3f} [{law.low:.3f}, {law.high:.3f}]"
    claim = f"100 - score = {law.factor:.1f} * size ** -b with b = {between}"
    if not law.fits:
        claim = f"no law: the points do not lie on a power law (p = {law.p_value:.3f})"
    elif not law.has_trend:
        claim = f"no claim: the exponent {between} cannot be told from 0"
    return asdict(law) | {"sizes": sizes.tolist(), "claim": claim}


def write_tables(
    table_definitions: dict[str, Any], tables: pd.DataFrame, laws: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Returns all tables in Markdown, and every number that was run by table, row and column, for ``dvc metrics``."""
    from gmail_kedro.reporting.paper_tables import tables_markdown
    from gmail_kedro.reporting.table_definitions import read_tables

    notes = {table.number: table.note for table in read_tables(table_definitions)}
    told = [
        f"Table {number}, {name}: {law['claim']}" for number, columns in laws.items() for name, law in columns.items()
    ]
    numbers: dict[str, Any] = {"cells": {str(key): int(n) for key, n in tables["status"].value_counts().items()}}
    for cell in tables[tables["status"] == "run"].itertuples():
        numbers.setdefault(f"table {cell.table}", {}).setdefault(cell.row, {})[cell.column] = round(cell.ours, 4)
    return tables_markdown(tables, notes, told), numbers


def write_report(
    tables: pd.DataFrame,
    table_definitions: dict[str, Any],
    laws: dict[str, Any],
    finished_runs: Path,
    generated_sets: Path,
    params: ReportParams,
) -> tuple[str, str]:
    """Returns the page that shows a whole reproduction, and its tables in Markdown.

    Args:
        tables: One row a cell.
        table_definitions: ``tables`` by number; their notes say what stands for what.
        laws: The fitted laws by table and column.
        finished_runs: Has a folder ``<name>-<seed>`` for every run.
        generated_sets: The folder of the generated sets.
        params: What the figures are drawn from.
    """
    from gmail_kedro.reporting.finished_runs import read_runs
    from gmail_kedro.reporting.report_figures import build_galleries
    from gmail_kedro.reporting.report_page import render_markdown, render_page
    from gmail_kedro.reporting.table_definitions import read_tables

    notes = {table.number: table.note for table in read_tables(table_definitions) if table.note}
    galleries = build_galleries(tables, read_runs(finished_runs), generated_sets, laws, params)
    return render_page(tables, galleries, notes), render_markdown(tables, notes)
