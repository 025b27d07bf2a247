"""Which tables there are: what tables.yml says, checked. A cell is one number of one run, found by its address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ADDRESS = re.compile(r"(?P<file>\w+):(?P<groups>\w+(/\w+)*)/(?P<key>\w+)")
OURS_FROM = 101  # numbers of tables that no paper has
ROW_KEYS = {"run", "against", "paper", "file", "group", "seeds", "blocked"}


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    file: str  # file in a run's folder that has its numbers, without `.json`
    groups: tuple[str, ...]  # where in the file, key by key, outermost first
    key: str
    higher_is_better: bool = True
    per: float = 1.0  # what the number is divided by, so that it stands in the paper's unit
    instead: "Column | None" = None  # where it lies in runs that have no number at this address, or None


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    run: str  # a name of experiments.yml
    against: str  # the row that it is compared with, if any
    paper: tuple[float, ...]  # the paper's number of each column; NaN where it has none
    columns: tuple[Column, ...]
    seeds: tuple[int, ...] | None  # the only seeds that count, or None for all
    blocked: str  # why the row cannot run, if so


@dataclass(frozen=True)
class Table:
    """One table."""

    number: int  # the paper's, or from `OURS_FROM` on our own
    title: str
    note: str  # what its rows stand for
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
        if unknown := row.keys() - ROW_KEYS:
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
    facts = at if isinstance(at, dict) else {"at": at}
    addresses = facts["at"] if isinstance(facts["at"], list) else [facts["at"]]
    column: Column | None = None
    for address in reversed(addresses):  # each points to the one after it, where a run has no number at its own
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"{where} needs addresses FILE:GROUP/KEY. Got {address!r} for {name!r} instead.")
        own = [tuple(found["groups"].split("/"))]
        for groups in [(group,) for group in reversed(row["group"].split())] if "group" in row else own:
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
