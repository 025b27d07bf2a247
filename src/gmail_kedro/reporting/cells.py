"""The result table as a reader sees it: every table, row and cell with its words, for the page and for Markdown."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gmail_kedro.reporting.verdicts import with_verdicts

MISSING = "—"
LABELS = {
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "cider": "CIDEr",
    "spice": "SPICE",
    "rouge_l": "ROUGE-L",
    "wmd": "WMD",
    "dtd": "DTD",
    "sun397": "SUN397",
    "imagenet": "ImageNet",
    "stanford_cars": "Stanford Cars",
    "food101": "Food-101",
    "oxford_pets": "Oxford Pets",
    "caltech101": "Caltech-101",
    "probe_auc": "probe AUC",
    "knn_mixing": "k-NN mixing",
    "scienceqa": "ScienceQA",
    "mmmu": "MMMU",
    "training_time_hrs": "training time, h",
    "memory_gb": "memory, GB",
    "flops_gflops": "GFLOPs",
} | {
    f"{way}_r{k}": f"{words} R@{k}"
    for way, words in (("i2t", "image → text"), ("t2i", "text → image"))
    for k in (1, 5, 10)
}
PREFIXES = {"flickr_": "Flickr30k:", "tuned_": "tuned:", "matched_": "matched codec:"}
FACTS = {
    "corpus": "corpus",
    "split": "split",
    "encoder": "encoder",
    "generator": "generator",
    "generated_set": "generated set",
    "seed_count": "seeds",
    "run_ids": "runs",
    "git_commit": "commit",
}
HASH_LENGTH = 10  # characters shown of a commit or of a set's hash


@dataclass(frozen=True)
class Cell:
    """One number of a table, in words.

    Attributes:
        ours: Our number, or a dash.
        interval: Its interval in brackets; empty without one.
        paper: The paper's number, or a dash.
        effect: Our difference from the compared row: arrow, size, and whether that is better; empty without one.
        effect_interval: Its interval in brackets; empty without one.
        paper_effect: The same in the paper.
        verdict: See ``verdicts.verdict``.
        reason: Why there is no number of ours, or no difference; empty where nothing is missing.
    """

    ours: str
    interval: str
    paper: str
    effect: str
    effect_interval: str
    paper_effect: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: Its name in the paper.
        against: The row it is compared with; empty where it is compared with none.
        status: ``run``, ``run in part`` or ``blocked``.
        reasons: Why something of it did not run.
        seed_count: How many seeds its numbers come from.
        facts: The protocol and where the numbers come from, in words.
        cells: Its numbers, one a column.
    """

    name: str
    against: str
    status: str
    reasons: tuple[str, ...]
    seed_count: int
    facts: dict[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        number: Its number in the paper; from 101 on, our own.
        title: What it is about.
        columns: The measures' names, with a mark on those where lower is better.
        rows: Its rows.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def notes(self) -> list[str]:
        """Returns the reasons why cells have no number, each once."""
        return list(dict.fromkeys(cell.reason for row in self.rows for cell in row.cells if cell.reason))

    @property
    def is_ours(self) -> bool:
        """Tells whether the paper has no such table."""
        return self.number > 100


def read_tables(results: pd.DataFrame) -> list[Table]:
    """Returns the tables of a reproduction in order.

    Args:
        results: The result table, one row a cell.

    Raises:
        ValueError: If a row of a table lacks one of its columns, or has it twice.
    """
    return [_table(int(number), cells) for number, cells in with_verdicts(results).groupby("table", sort=True)]


def label(column: str) -> str:
    """Returns the name of a measure as the paper prints it.

    Args:
        column: Its key in the result table.
    """
    for prefix, words in PREFIXES.items():
        if column.startswith(prefix):
            return f"{words} {label(column.removeprefix(prefix))}"
    return LABELS.get(column, column.replace("_", " "))


def number(value: float) -> str:
    """Returns a number to the digits that can be read in a table; a dash for NaN.

    Args:
        value: The number.
    """
    if not np.isfinite(value):
        return MISSING
    return f"{value:,.{_digits(value)}f}".replace("-", "−")


def _table(number_: int, cells: pd.DataFrame) -> Table:
    columns = list(dict.fromkeys(cells["column"]))
    lower = set(cells.loc[~cells["higher_is_better"].astype(bool), "column"])
    rows = []
    for name, row in cells.groupby("row", sort=False):
        if sorted(row["column"]) != sorted(columns):
            raise ValueError(
                f"The row {name!r} of table {number_} must have each column once: {columns}. "
                f"Got {list(row['column'])}. Build the tables again."
            )
        rows.append(_row(str(name), row.set_index("column").loc[columns]))
    shown = tuple(f"{label(column)} ↓" if column in lower else label(column) for column in columns)
    return Table(number_, cells["title"].iloc[0], shown, tuple(rows))


def _row(name: str, cells: pd.DataFrame) -> Row:
    statuses = set(cells["status"])
    facts = {words: _fact(key, cells[key]) for key, words in FACTS.items()}
    return Row(
        name=name,
        against=cells["against"].iloc[0],
        status=statuses.pop() if len(statuses) == 1 else "run in part",
        reasons=tuple(dict.fromkeys(reason for reason in cells["reason"] if reason)),
        seed_count=int(cells["seed_count"].max()),
        facts={words: fact for words, fact in facts.items() if fact},
        cells=tuple(_cell(cell) for _, cell in cells.iterrows()),
    )


def _fact(key: str, values: pd.Series) -> str:
    said = dict.fromkeys(str(value) for value in values if str(value) not in ("", "nan", "None"))
    if key in ("generated_set", "git_commit"):
        said = dict.fromkeys(value[:HASH_LENGTH] for value in said)
    return ", ".join(said)


def _cell(cell: pd.Series) -> Cell:
    ran = cell["status"] == "run" and np.isfinite(cell["ours"])
    digits = _digits(cell["ours"]) if ran else 0
    effects = [size for size in cell[["effect", "effect_low", "effect_high"]] if np.isfinite(size)]
    effect_digits = _digits(max(effects, key=abs)) if effects else 0
    better = bool(cell["higher_is_better"])
    return Cell(
        ours=number(cell["ours"]) if ran else MISSING,
        interval=_interval(cell["low"], cell["high"], digits) if ran else "",
        paper=f"{cell['paper']:,g}" if np.isfinite(cell["paper"]) else MISSING,
        effect=_effect(cell["effect"], better, effect_digits) if ran else "",
        effect_interval=_interval(cell["effect_low"], cell["effect_high"], effect_digits, sign="+"),
        paper_effect=_effect(cell["paper_effect"], better, _digits(cell["paper_effect"])),
        verdict=cell["verdict"],
        reason=cell["reason"] or ("" if ran else "no number was left by the run"),
    )


def _digits(value: float) -> int:
    size = abs(value)
    if not np.isfinite(size) or size == 0 or size >= 1000:
        return 0
    return 1 if size >= 10 else 2 if size >= 1 else min(6, 2 - int(np.floor(np.log10(size))))


def _interval(low: float, high: float, digits: int, *, sign: str = "") -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f"[{low:{sign},.{digits}f}, {high:{sign},.{digits}f}]".replace("-", "−")


def _effect(value: float, higher_is_better: bool, digits: int) -> str:
    if not np.isfinite(value):
        return ""
    if value == 0:
        return "= no change"
    arrow = "▲" if value > 0 else "▼"
    return f"{arrow} {abs(value):,.{digits}f} {'better' if (value > 0) == higher_is_better else 'worse'}"
