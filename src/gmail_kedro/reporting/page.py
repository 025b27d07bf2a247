"""The report of a reproduction: one HTML page that needs nothing but itself, and the same tables in Markdown."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from gmail_kedro.reporting import verdicts
from gmail_kedro.reporting.cells import FACTS, label, read_tables
from gmail_kedro.reporting.plain_text import markdown

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
PICTURE_WIDTH = 1400  # pixels; wider pictures are made smaller


@dataclass(frozen=True)
class Picture:
    """A figure of the page, or the reason why it is not there.

    Attributes:
        title: What is seen.
        caption: How to read it, and from how many seeds it is.
        svg: A chart as an ``<svg>`` element; empty for a picture or nothing.
        data: A picture as a data URI; empty for a chart or nothing.
        missing: Why there is neither.
    """

    title: str
    caption: str
    svg: str = ""
    data: str = ""
    missing: str = ""

    def __post_init__(self) -> None:
        """Refuses a figure that shows nothing and does not say why.

        Raises:
            ValueError: If there is not exactly one of chart, picture and reason.
        """
        if sum(bool(content) for content in (self.svg, self.data, self.missing)) != 1:
            raise ValueError(f"The figure {self.title!r} must be a chart, a picture, or a reason why it is missing.")


@dataclass(frozen=True)
class Gallery:
    """Figures under one heading.

    Attributes:
        title: The heading.
        text: What they are about.
        pictures: The figures.
        wide: Whether each takes the whole width.
    """

    title: str
    text: str
    pictures: tuple[Picture, ...]
    wide: bool = False


def data_uri(image: "Image") -> str:
    """Returns a picture as a data URI, in WebP and no wider than a page needs.

    Args:
        image: The picture.
    """
    if image.width > PICTURE_WIDTH:
        image = image.resize((PICTURE_WIDTH, round(image.height * PICTURE_WIDTH / image.width)))
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def render_page(results: pd.DataFrame, galleries: Sequence[Gallery], notes: Mapping[int, str]) -> str:
    """Returns the page.

    Args:
        results: The result table, one row a cell.
        galleries: The figures.
        notes: What a reader must know about a table, by its number.
    """
    return _render("page.html.j2", results, notes, galleries=galleries)


def render_markdown(results: pd.DataFrame, notes: Mapping[int, str]) -> str:
    """Returns the summary and all tables in Markdown.

    Args:
        results: The result table, one row a cell.
        notes: What a reader must know about a table, by its number.
    """
    return _render("page.md.j2", results, notes)


def _render(template: str, results: pd.DataFrame, notes: Mapping[int, str], **more: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gmail_kedro.reporting"),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "markdown": markdown}
    found = verdicts.findings(results)
    counts = verdicts.count_verdicts(found)
    groups = {title: [one for one in found if one.outcome == key] for key, title in OUTCOMES.items()}
    return environment.get_template(template).render(
        tables=read_tables(results),
        notes=notes,
        groups={title: members for title, members in groups.items() if members},
        counts=counts,
        headline=verdicts.headline(counts),
        marks=MARKS,
        words=WORDS,
        corpora=_corpora(results),
        blocked=_blocked(results),
        facts=list(FACTS.values()),
        is_single_seed=bool((results.loc[results["status"] == "run", "seed_count"] <= 1).all()),
        **more,
    )


def _blocked(results: pd.DataFrame) -> dict[str, list[str]]:
    """Returns each reason with the tables and measures it keeps from running."""
    reasons: dict[str, list[str]] = {}
    for (table, column, reason), _ in results[results["status"] == "blocked"].groupby(["table", "column", "reason"]):
        reasons.setdefault(reason or "no reason was given", []).append(f"table {table}: {label(column)}")
    return reasons


def _corpora(results: pd.DataFrame) -> list[str]:
    ran = results[results["status"] == "run"]
    return sorted({str(corpus) for corpus in ran["corpus"].dropna() if corpus})
