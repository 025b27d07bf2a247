"""The node that writes the report of a reproduction."""

from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.params import ReportParams


def write_report(
    result_tables: pd.DataFrame, table_definitions: dict[str, Any], repro_folder: Path, sets: Path, params: ReportParams
) -> tuple[str, str]:
    """Returns the page that shows a whole reproduction, and its tables in Markdown.

    Args:
        result_tables: One row a cell.
        table_definitions: ``tables`` by number; their notes say what stands for what.
        repro_folder: Has a folder ``<name>-<seed>`` for every run.
        sets: The folder of the generated sets.
        params: What the figures are drawn from.
    """
    from gmail_kedro.reporting.galleries import build_galleries
    from gmail_kedro.reporting.page import render_markdown, render_page
    from gmail_kedro.reporting.results import read_runs

    tables = table_definitions["tables"]
    notes = {int(number): table["note"] for number, table in tables.items() if table.get("note")}
    galleries = build_galleries(result_tables, read_runs(repro_folder), sets, params)
    return render_page(result_tables, galleries, notes), render_markdown(result_tables, notes)
