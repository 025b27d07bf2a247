"""Charts of a reproduction as SVG that stands in the page itself: its ink follows the page, light or dark.

Every chart is one narrow panel, so that a phone shows them one below the other at a size one can read.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.plain_text import as_written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's own text colour until the SVG is written
BLUE, ORANGE = "#3a86c8", "#d9822b"  # told apart by every kind of colour vision, on white and on black
LINES = ((BLUE, "-"), (ORANGE, "--"), ("#8a8f98", ":"), ("#7a5ea8", "-."))
WIDTH = 4.4  # inches
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "gmail_kedro",  # or the ids, and so the page, would be others each time
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


@as_written
def draw_gap(gaps: Mapping[str, Mapping[str, Any]], measure: str, title: str) -> "Figure":
    """Returns one measure of the gap by run: an open dot before alignment, a full one with its interval after.

    Args:
        gaps: The content of each run's ``gap.json``, by run; a run without the measure is left out.
        measure: Such as ``paired_cosine``.
        title: The line above, as in every chart here.

    Raises:
        ValueError: If no run has the measure.
    """
    known = {name: gap for name, gap in gaps.items() if f"{measure}_after" in gap["scores"]}
    if not known:
        raise ValueError(f"No run has the measure {measure!r} of the gap. Got runs {list(gaps)}.")
    figure, axis = _panel(title, height=1.0 + 0.3 * len(known))
    for row, gap in enumerate(known.values()):
        after, before = gap["scores"][f"{measure}_after"], gap["scores"].get(f"{measure}_before")
        interval = gap.get("intervals", {}).get(f"{measure}_after")
        if before is not None:
            axis.plot([before, after], [row, row], color="#8a8f98", linewidth=1, zorder=1)
            axis.scatter(before, row, s=34, facecolor="none", edgecolor=ORANGE, label="" if row else "before", zorder=2)
        if interval is not None:
            axis.plot([interval["low"], interval["high"]], [row, row], color=BLUE, linewidth=4, alpha=0.35, zorder=2)
        axis.scatter(after, row, s=34, color=BLUE, label="" if row else "after", zorder=3)
    axis.set_yticks(range(len(known)), list(known))
    axis.set_ylim(len(known) - 0.5, -0.5)
    axis.grid(axis="x", color="#8a8f98", alpha=0.25)
    figure.legend(frameon=False, ncols=2, loc="outside lower center")
    return figure


@as_written
def draw_scaling(points: pd.DataFrame, law: Mapping[str, Any], title: str) -> "Figure":
    """Returns a score over the number of generated images, with the law ``100 - score = factor images^-exponent``.

    Args:
        points: One row a run: ``generated_image_count``, ``ours`` in percent, ``low`` and ``high``, which may be NaN.
        law: ``factor`` and ``exponent``; no curve is drawn without them.
        title: See ``draw_gap``.

    Raises:
        ValueError: If fewer than two set sizes are given.
    """
    points = points.sort_values("generated_image_count")
    sizes, scores = points["generated_image_count"].to_numpy(dtype=float), points["ours"].to_numpy(dtype=float)
    if len(np.unique(sizes)) < 2:
        raise ValueError(f"A scaling curve needs two set sizes or more. Got {sorted({int(size) for size in sizes})}.")
    figure, axis = _panel(title, height=3.0)
    whole = points.dropna(subset=["low", "high"])
    axis.vlines(whole["generated_image_count"], whole["low"], whole["high"], color=BLUE, linewidth=2, alpha=0.5)
    axis.plot(sizes, scores, "o", color=BLUE, label="measured")
    if "exponent" in law:
        smooth = np.geomspace(sizes[0], sizes[-1], 50)
        label = f"100 − {law['factor']:.3g} · images^{-law['exponent']:.3f}".replace("-", "−")
        axis.plot(smooth, 100 - law["factor"] * smooth ** -law["exponent"], "--", color=ORANGE, label=label)
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axis.minorticks_off()  # a logarithmic axis would label them over ours
    axis.set_xlabel("generated images")
    axis.legend(frameon=False)
    return figure


@as_written
def draw_curves(histories: Mapping[str, pd.DataFrame], title: str, *, column: str = "loss") -> "Figure":
    """Returns training curves by run, a smooth line over the faint values of the steps.

    Raises:
        ValueError: If there is no history.
    """
    if not histories:
        raise ValueError("There is no training history to draw.")
    figure, axis = _panel(title, height=3.0)
    for place, (label, history) in enumerate(histories.items()):
        colour, style = LINES[place % len(LINES)]
        curve = history.dropna(subset=[column])
        axis.plot(curve["step"], curve[column], color=colour, alpha=0.2, linewidth=0.8)
        smooth = curve[column].rolling(max(1, len(curve) // 20), min_periods=1).mean()
        axis.plot(curve["step"], smooth, style, color=colour, label=label)
    axis.set_xlabel("step")
    axis.legend(frameon=False)
    return figure


@as_written
def draw_cost(rows: Sequence[str], ours: Sequence[float], paper: Sequence[float], title: str) -> "Figure":
    """Returns one column of the cost table relative to its first row, ours and the paper's side by side.

    Args:
        rows: The rows' names.
        ours: What each took here; NaN where it was not measured.
        paper: What it took in the paper.
        title: See ``draw_gap``.

    Raises:
        ValueError: If neither first row is a number to compare with.
    """
    figure, axis = _panel(title, height=0.9 + 0.45 * len(rows))
    drawn = False
    for offset, colour, label, values in ((-0.17, BLUE, "ours", ours), (0.17, "#8a8f98", "paper", paper)):
        if not (np.isfinite(values[0]) and values[0] > 0):
            continue
        drawn = True
        relative = np.asarray(values, dtype=float) / values[0]  # [rows]
        places = np.arange(len(rows)) + offset
        axis.barh(places, np.nan_to_num(relative), height=0.3, color=colour, label=label)
        for place, value in zip(places, relative, strict=True):
            text = f"{value:.2f}×" if np.isfinite(value) else "not measured"
            axis.text(np.nan_to_num(value) + 0.02, place, text, va="center", fontsize=8.5)
    if not drawn:
        raise ValueError(f"The first row {rows[0]!r} was not measured, so nothing can be relative to it.")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlim(right=axis.get_xlim()[1] * 1.12)
    figure.legend(frameon=False, ncols=2, loc="outside lower center")
    return figure


def as_svg(figure: "Figure", name: str, *, title: str) -> str:
    """Returns a figure as an ``<svg>`` element for the inside of a page.

    It is as wide as its box, and refers to nothing outside.

    Args:
        figure: A figure of this module.
        name: A name for this one, unique in the page.
        title: What it shows, for those who hear the page.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_color() == "black":  # legends and titles do not heed every colour of rcParams
            text.set_color(INK)
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    written = stream.getvalue()
    written = written[written.index("<svg") :]  # an XML head may stand at the beginning of a file alone
    written = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", written, flags=re.DOTALL)
    prefix = re.sub(r"[^\w-]", "-", name)
    # Every figure of matplotlib names its parts alike: clip paths of one would cut another on the same page.
    written = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", written)
    written = written.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href", "href")
    # Without a size of its own the SVG is as wide as its box, and the viewBox keeps its shape.
    written = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", written, count=2)
    written = written.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    return written.replace(INK, "currentColor")


def _panel(title: str, *, height: float) -> "tuple[Figure, Axes]":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axis = figure.subplots()
    axis.set_title(title, loc="left")
    return figure, axis
