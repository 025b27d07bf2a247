"""The node that writes the report of a reproduction."""

from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.params.report import ReportParams


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
    from gmail_kedro.reporting.galleries import build_galleries
    from gmail_kedro.reporting.page import render_markdown, render_page
    from gmail_kedro.reporting.results import read_runs
    from gmail_kedro.reporting.tables import read_tables

    notes = {table.number: table.note for table in read_tables(table_definitions) if table.note}
    galleries = build_galleries(tables, read_runs(finished_runs), generated_sets, laws, params)
    return render_page(tables, galleries, notes), render_markdown(tables, notes)
