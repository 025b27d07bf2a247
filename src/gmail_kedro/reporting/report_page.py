"""The report of a reproduction: one HTML page that needs nothing but itself, and the same tables in Markdown.

What stands where is in ``templates/``; this module puts the cells of ``paper_tables`` into words for them.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting import verdicts
from gmail_kedro.reporting.plain_text import interval_text, markdown
from gmail_kedro.reporting.table_definitions import OURS_FROM

if TYPE_CHECKING:
    from PIL.Image import Image

MARKS = {verdicts.HOLDS: "●", verdicts.NOT_SHOWN: "○", verdicts.OPPOSITE: "◆", verdicts.BLOCKED: "–"}
WORDS = {
    verdicts.HOLDS: "our interval lies on the paper's side of zero",
    verdicts.NOT_SHOWN: "our interval includes zero, or there is none",
    verdicts.OPPOSITE: "our interval lies on the other side of zero",
    verdicts.BLOCKED: "could not be measured here",
}
OUTCOMES = {
    verdicts.EVERY: "Held in every measure that ran",
    verdicts.SOME: "Held in some measures, the others are not shown",
    verdicts.NONE: "Not shown",
    verdicts.CONTRARY: "Contrary to the paper in at least one measure",
    verdicts.UNRUN: "Could not be run",
}
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
IMAGE_WIDTH = 1400  # pixels; wider images are made smaller


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page, or the reason why it is not there."""

    title: str
    caption: str  # how to read it, and from how many seeds it is
    svg: str = ""  # a chart as an `<svg>` element; empty for an image or nothing
    data: str = ""  # an image as a data URI; empty for a chart or nothing
    missing: str = ""  # why there is neither

    def __post_init__(self) -> None:
        """Refuses a figure that shows nothing and does not say why.

        Raises:
            ValueError: If there is not exactly one of chart, image and reason.
        """
        if sum(bool(content) for content in (self.svg, self.data, self.missing)) != 1:
            raise ValueError(f"The figure {self.title!r} must be a chart, an image, or a reason why it is missing.")


@dataclass(frozen=True)
class Gallery:
    """Figures under one heading."""

    title: str
    text: str
    figures: tuple[PageFigure, ...]
    wide: bool = False  # whether each takes the whole width


def data_uri(image: "Image") -> str:
    """Returns an image as a data URI, in WebP and no wider than a page needs."""
    if image.width > IMAGE_WIDTH:
        image = image.resize((IMAGE_WIDTH, round(image.height * IMAGE_WIDTH / image.width)))
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def render_page(cells: pd.DataFrame, galleries: Sequence[Gallery], notes: Mapping[int, str]) -> str:
    """Returns the page.

    Args:
        cells: One row a cell, as ``paper_tables.build_cells`` returns them.
        galleries: The figures.
        notes: What a reader must know about a table, by its number.
    """
    return _render("page.html.j2", cells, notes, galleries=galleries)


def render_markdown(cells: pd.DataFrame, notes: Mapping[int, str]) -> str:
    """Returns the summary and all tables in Markdown; see ``render_page``."""
    return _render("page.md.j2", cells, notes)


def _render(template: str, cells: pd.DataFrame, notes: Mapping[int, str], **more: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gmail_kedro.reporting"),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "markdown": markdown}
    found = verdicts.findings(cells)
    counts = verdicts.count_verdicts(found)
    groups = {title: [one for one in found if one.outcome == key] for key, title in OUTCOMES.items()}
    ran = cells[cells["status"] == "run"]
    return environment.get_template(template).render(
        tables=shown_tables(cells),
        notes=notes,
        groups={title: members for title, members in groups.items() if members},
        counts=counts,
        headline=verdicts.headline(counts),
        marks=MARKS,
        words=WORDS,
        corpora=sorted({str(corpus) for corpus in ran["corpus"].dropna() if corpus}),
        blocked=_blocked(cells),
        facts=list(FACTS.values()),
        is_single_seed=bool((ran["seed_count"] <= 1).all()),
        **more,
    )


def _blocked(cells: pd.DataFrame) -> dict[str, list[str]]:
    """Returns each reason with the tables and measures it keeps from running."""
    reasons: dict[str, list[str]] = {}
    for (table, column, reason), _ in cells[cells["status"] == "blocked"].groupby(["table", "column", "reason"]):
        reasons.setdefault(reason or "no reason was given", []).append(f"table {table}: {label(column)}")
    return reasons


def shown_tables(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the tables of a reproduction as the templates print them, every number in words.

    Args:
        cells: As for ``render_page``.

    Returns:
        For each table its ``number``, ``title``, ``is_ours``, ``columns`` (marked where lower is better), ``notes``
        (each reason once) and ``rows``: ``name``, ``against``, ``status`` (``run``, ``run in part``, ``blocked``),
        ``reasons``, ``seed_count``, ``facts``, and ``cells``, one a column.

    Raises:
        ValueError: If a row of a table lacks one of its columns, or has it twice.
    """
    return [
        _shown_table(int(number), table) for number, table in verdicts.with_verdicts(cells).groupby("table", sort=True)
    ]


def _shown_table(number: int, cells: pd.DataFrame) -> dict[str, Any]:
    columns = list(dict.fromkeys(cells["column"]))
    lower = set(cells.loc[~cells["higher_is_better"].astype(bool), "column"])
    rows = []
    for name, row in cells.groupby("row", sort=False):
        if sorted(row["column"]) != sorted(columns):
            raise ValueError(
                f"The row {name!r} of table {number} must have each column once: {columns}. "
                f"Got {list(row['column'])}. Build the tables again."
            )
        rows.append(_shown_row(str(name), row.set_index("column").loc[columns]))
    reasons = [cell["reason"] for row in rows for cell in row["cells"] if cell["reason"]]
    return {
        "number": number,
        "title": cells["title"].iloc[0],
        "is_ours": number >= OURS_FROM,
        "columns": [f"{label(column)} ↓" if column in lower else label(column) for column in columns],
        "rows": rows,
        "notes": list(dict.fromkeys(reasons)),
    }


def _shown_row(name: str, cells: pd.DataFrame) -> dict[str, Any]:
    statuses = set(cells["status"])
    facts = {words: _fact(key, cells[key]) for key, words in FACTS.items()}
    return {
        "name": name,
        "against": cells["against"].iloc[0],
        "status": statuses.pop() if len(statuses) == 1 else "run in part",
        "reasons": list(dict.fromkeys(reason for reason in cells["reason"] if reason)),
        "seed_count": int(cells["seed_count"].max()),
        "facts": {words: fact for words, fact in facts.items() if fact},
        "cells": [_shown_cell(cell) for _, cell in cells.iterrows()],
    }


def _fact(key: str, values: "pd.Series[Any]") -> str:
    said = dict.fromkeys(str(value) for value in values if str(value) not in ("", "nan", "None"))
    if key in ("generated_set", "git_commit"):
        said = dict.fromkeys(value[:HASH_LENGTH] for value in said)
    return ", ".join(said)


def _shown_cell(cell: "pd.Series[Any]") -> dict[str, str]:
    ran = cell["status"] == "run" and np.isfinite(cell["ours"])
    digits = _digits(cell["ours"]) if ran else 0
    effects = [size for size in cell[["effect", "effect_low", "effect_high"]] if np.isfinite(size)]
    effect_digits = _digits(max(effects, key=abs)) if effects else 0  # a difference and its interval look alike
    better = bool(cell["higher_is_better"])
    return {
        "ours": _minus(f"{cell['ours']:,.{digits}f}") if ran else MISSING,
        "interval": _interval(cell["low"], cell["high"], f",.{digits}f") if ran else "",
        "paper": f"{cell['paper']:,g}" if np.isfinite(cell["paper"]) else MISSING,
        "effect": _effect(cell["effect"], better, effect_digits) if ran else "",
        "effect_interval": _interval(cell["effect_low"], cell["effect_high"], f"+,.{effect_digits}f"),
        "paper_effect": _effect(cell["paper_effect"], better, _digits(cell["paper_effect"])),
        "verdict": cell["verdict"],
        "reason": cell["reason"] or ("" if ran else "no number was left by the run"),
    }


def label(column: str) -> str:
    """Returns the name of a measure as the paper prints it."""
    for prefix, words in PREFIXES.items():
        if column.startswith(prefix):
            return f"{words} {label(column.removeprefix(prefix))}"
    return LABELS.get(column, column.replace("_", " "))


def _digits(value: float) -> int:
    """Returns how many digits after the point show three figures."""
    size = abs(value)
    if not np.isfinite(size) or size == 0 or size >= 1000:
        return 0
    return 1 if size >= 10 else 2 if size >= 1 else min(6, 2 - int(np.floor(np.log10(size))))


def _interval(low: float, high: float, form: str) -> str:
    return _minus(interval_text(low, high, form).strip())


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _effect(value: float, higher_is_better: bool, digits: int) -> str:
    if not np.isfinite(value):
        return ""
    if value == 0:
        return "= no change"
    arrow = "▲" if value > 0 else "▼"
    return f"{arrow} {abs(value):,.{digits}f} {'better' if (value > 0) == higher_is_better else 'worse'}"
