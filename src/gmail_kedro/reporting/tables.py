"""The tables as data: what conf/base/tables.yml says, checked, and finished tables as Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.plain_text import markdown

ADDRESS = re.compile(r"(?P<file>\w+):(?P<groups>\w+(/\w+)*)/(?P<key>\w+)")
OURS_FROM = 101  # numbers of tables that no paper has


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its heading.
        file: File in a run's folder that has its numbers, without ``.json``.
        groups: Where in the file, key by key, outermost first.
        key: The score.
        higher_is_better: Its direction.
        per: What the number is divided by, so that it stands in the paper's unit.
        instead: Where it lies in runs that have no number at this address, or None.
    """

    name: str
    file: str
    groups: tuple[str, ...]
    key: str
    higher_is_better: bool = True
    per: float = 1.0
    instead: "Column | None" = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: Its heading.
        run: The run that has its numbers.
        against: The row that it is compared with, or ``""``.
        paper: The paper's number of each column; NaN where it has none.
        columns: Where each number lies.
        seeds: The only seeds that count, or None for all.
        blocked: Why the row cannot run, or ``""``.
    """

    name: str
    run: str
    against: str
    paper: tuple[float, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...] | None
    blocked: str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        number: The paper's, or from 101 for our own.
        title: Its title.
        note: What its rows stand for.
        rows: Its rows by name.
    """

    number: int
    title: str
    note: str
    rows: Mapping[str, Row]


def read_tables(definitions: Mapping[str, Any]) -> list[Table]:
    """Returns the tables that conf/base/tables.yml describes.

    Args:
        definitions: The file's content.

    Raises:
        ValueError: If an address, a row's ``against`` or the count of the paper's numbers is wrong; names the row.
    """
    return [_table(number, described) for number, described in definitions["tables"].items()]


def _table(number: int, described: Mapping[str, Any]) -> Table:
    rows = {}
    for name, row in described["rows"].items():
        where = f"Row {name!r} of table {number} in conf/base/tables.yml"
        if unknown := row.keys() - {"run", "against", "paper", "file", "group", "seeds", "blocked"}:
            raise ValueError(f"{where} has a key nobody reads: {sorted(unknown)}.")
        if row.get("against", name) not in described["rows"]:
            raise ValueError(f"{where} is compared with {row['against']!r}, which is no row of it.")
        columns = tuple(_column(heading, at, row, where) for heading, at in described["columns"].items())
        paper = row.get("paper") or [None] * len(columns)
        if len(paper) != len(columns):
            raise ValueError(f"{where} must have {len(columns)} numbers of the paper. Got {len(paper)} instead.")
        rows[name] = Row(
            name=name,
            run=row["run"],
            against=row.get("against", ""),
            paper=tuple(np.nan if number is None else float(number) for number in paper),
            columns=columns,
            seeds=tuple(row["seeds"]) if "seeds" in row else None,
            blocked=row.get("blocked", ""),
        )
    return Table(int(number), described["title"], described.get("note", "").strip(), rows)


def _column(name: str, at: Any, row: Mapping[str, Any], where: str) -> Column:
    """Returns a column; of several addresses, or groups of a row, a run's number is at the first that has one."""
    facts = at if isinstance(at, dict) else {"at": at}
    addresses = facts["at"] if isinstance(facts["at"], list) else [facts["at"]]
    named = row.get("group")
    column: Column | None = None
    for address in reversed(addresses):
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"{where} needs addresses FILE:GROUP/KEY. Got {address!r} for {name!r} instead.")
        own = [tuple(found["groups"].split("/"))]
        for groups in own if named is None else [(group,) for group in reversed(named.split())]:
            column = Column(
                name=name,
                file=row.get("file", found["file"]),
                groups=groups,
                key=found["key"],
                higher_is_better=not facts.get("lower", False),
                per=float(facts.get("per", 1)),
                instead=column,
            )
    if column is None:
        raise ValueError(f"{where} has no address for {name!r}. Give FILE:GROUP/KEY.")
    return column


def tables_markdown(cells: pd.DataFrame, notes: Mapping[int, str], laws: Sequence[str]) -> str:
    """Returns all tables in Markdown: rows down, columns across; ours with its interval, the paper's number beside it.

    Args:
        cells: One row a cell, as the pipeline ``tables`` stores them.
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
    columns = table.drop_duplicates("column")
    directions = columns[["column", "higher_is_better"]].to_numpy()
    heads = [markdown(name if higher else f"{name} ↓") for name, higher in directions]
    lines = [
        f"## Table {number}. {markdown(table['title'].iloc[0])}" + (" (ours)" if number >= OURS_FROM else ""),
        "",
        markdown(note),
        "",
        "| row | compared with | run | seeds | " + " | ".join(heads) + " |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for name, row in table.groupby("row", sort=False):
        first = row.iloc[0]
        texts = [_cell(cell) for _, cell in row.iterrows()]
        named = " | ".join(markdown(text) for text in (name, first["against"] or "—", first["run"]))
        lines.append(f"| {named} | {first['seed_count']} | " + " | ".join(texts) + " |")
    reasons = table[table["status"] == "blocked"].groupby("reason", sort=False)["column"].agg(lambda names: names)
    told = {reason: sorted(set(np.atleast_1d(names))) for reason, names in reasons.items()}
    reasons_told = [f"- — in {markdown(', '.join(names))}: {markdown(reason)}" for reason, names in told.items()]
    return lines + ([""] if told else []) + reasons_told


def _cell(cell: "pd.Series[Any]") -> str:
    paper = "" if np.isnan(cell["paper"]) else f" \\| {cell['paper']:g}"
    if paper and not np.isnan(cell["paper_effect"]):
        paper += f" ({cell['paper_effect']:+.3g})"
    if cell["status"] == "blocked":
        return f"—{paper}"
    digits = 2 if abs(cell["ours"]) >= 5 else 3
    text = f"{cell['ours']:.{digits}f}{_between(cell['low'], cell['high'], f'.{digits}f')}"
    if not np.isnan(cell["effect"]):
        between = _between(cell["effect_low"], cell["effect_high"], f"+.{digits}f")
        text += f" ({cell['effect']:+.{digits}f}{between})"
    return text + paper


def _between(low: float, high: float, form: str) -> str:
    return "" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]"
