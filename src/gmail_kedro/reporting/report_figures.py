"""The figures of a reproduction's page, each with how to read it; what cannot be drawn says why."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gmail_kedro.params.report import ReportParams
from gmail_kedro.reporting import charts
from gmail_kedro.reporting.finished_runs import FinishedRun
from gmail_kedro.reporting.report_files import DamagedReportError, read_png
from gmail_kedro.reporting.report_page import Gallery, PageFigure, data_uri, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP_MEASURES = {
    "paired_cosine": "Cosine of real and generated partner",
    "probe_auc": "AUC of a linear probe (0.5: cannot tell)",
    "centroid_distance": "Distance of the two centroids",
    "knn_mixing": "Mixing among nearest neighbours",
}
TRAININGS = {
    "alignment": "Alignment, loss",
    "captioner": "Captioner, loss",
    "retriever": "Text tower, loss",
    "vision_language": "Vision-language model, loss",
}
ONE_SEED = "Single seed."


def build_galleries(
    cells: pd.DataFrame, runs: Sequence[FinishedRun], sets: Path, laws: Mapping[str, Any], params: ReportParams
) -> list[Gallery]:
    """Returns all figures: samples of the sets, planes, gap, scaling, training, cost.

    Args:
        cells: One row a cell, as ``paper_tables.build_cells`` returns them.
        runs: The finished runs.
        sets: The folder of the generated sets, each with the ``samples.png`` of its card.
        laws: For each table and column, as text, what was fitted: its ``claim``, ``factor`` and ``exponent``.
        params: Which tables and runs are drawn.
    """
    return [
        Gallery(
            "Generated images",
            "Real images of each set beside those generated from their captions.",
            _samples(sets),
            wide=True,
        ),
        Gallery(
            "Before and after alignment",
            "Held-out real and generated embeddings in one t-SNE plane, partners joined by a line.",
            _planes(runs, params.figure_runs),
            wide=True,
        ),
        Gallery(
            "The gap",
            f"Rows of table {params.gap_table}, on held-out pairs: an open dot before alignment, a full one with its "
            "95 % interval after.",
            _gap(cells, runs, params.gap_table),
        ),
        Gallery(
            "Scaling the generated set",
            f"Table {params.scaling_table}: score over the number of generated images, with a power law of "
            "the error where the points lie on one.",
            _scaling(cells, laws, params),
        ),
        Gallery("Training", "Loss over the optimizer's steps, smoothed.", _curves(runs, params.figure_runs)),
        Gallery(
            "Cost",
            f"Table {params.cost_table}, each measure relative to the table's first row, here and in the paper.",
            _cost(cells, params.cost_table),
        ),
    ]


def _chart(title: str, caption: str, name: str, draw: "Callable[..., Figure]", *content: Any) -> PageFigure:
    """Draws ``draw(*content, title)``; a chart that refuses its content is a figure that says why it is missing."""
    try:
        return PageFigure(title, caption, svg=charts.as_svg(draw(*content, title), name, title=title))
    except ValueError as reason:
        return PageFigure(title, caption, missing=str(reason))


def _stored(path: Path, title: str, caption: str) -> PageFigure:
    """Takes a figure from its file; one that is damaged is a figure that says so."""
    try:
        return PageFigure(title, caption, data=data_uri(read_png(path)))
    except DamagedReportError as reason:
        return PageFigure(title, caption, missing=str(reason))


def _or_missing(figures: list[PageFigure], title: str, why: str) -> tuple[PageFigure, ...]:
    return tuple(figures) or (PageFigure(title, "", missing=why),)


def _samples(sets: Path) -> tuple[PageFigure, ...]:
    figures = [
        _stored(path, f"Set {path.parent.name}", "The grid of the set's card.")
        for path in sorted(sets.glob("*/samples.png"))
    ]
    return _or_missing(figures, "Samples", f"no generated set in {sets.name} has a card with samples.png")


def _planes(runs: Sequence[FinishedRun], names: Sequence[str]) -> tuple[PageFigure, ...]:
    figures = [
        _stored(run.tsne, f"Run {run.name}, seed {run.seed}", ONE_SEED)
        for run in _first_of(runs, names)
        if run.tsne is not None
    ]
    return _or_missing(figures, "t-SNE", f"none of the runs {', '.join(names)} has left tsne.png")


def _gap(cells: pd.DataFrame, runs: Sequence[FinishedRun], table: int) -> tuple[PageFigure, ...]:
    rows = cells[cells["table"] == table].drop_duplicates("row")
    first = {run.name: run for run in _first_of(runs, list(rows["run"])) if run.gap}
    gaps = {row.row: first[row.run].gap for row in rows.itertuples() if row.run in first}
    absent = [row.row for row in rows.itertuples() if row.row not in gaps]
    caption = ONE_SEED + (f" Without a measurement: {', '.join(absent)}." if absent else "")
    return tuple(
        _chart(title, caption, f"gap-{measure}", charts.draw_gap, gaps, measure)
        for measure, title in GAP_MEASURES.items()
    )


def _scaling(cells: pd.DataFrame, laws: Mapping[str, Any], params: ReportParams) -> tuple[PageFigure, ...]:
    figures = []
    for column in params.scaling_columns:
        rows = cells[(cells["table"] == params.scaling_table) & (cells["column"] == column)]
        points = rows.dropna(subset=["generated_image_count", "ours"])
        law = laws.get(str(params.scaling_table), {}).get(column, {"claim": "no law was fitted"})
        caption = f"{_seeds(points['seed_count'])} {law['claim'][:1].upper()}{law['claim'][1:]}."
        figures.append(_chart(label(column), caption, f"scaling-{column}", charts.draw_scaling, points, law))
    return tuple(figures)


def _curves(runs: Sequence[FinishedRun], names: Sequence[str]) -> tuple[PageFigure, ...]:
    figures = []
    for kind, title in TRAININGS.items():
        histories = {run.name: run.histories[kind] for run in _first_of(runs, names) if kind in run.histories}
        histories = {name: history for name, history in histories.items() if "loss" in history and len(history)}
        if histories:
            figures.append(_chart(title, ONE_SEED, f"training-{kind}", charts.draw_curves, histories))
    return _or_missing(figures, "Training", f"none of the runs {', '.join(names)} has left a training history")


def _cost(cells: pd.DataFrame, table: int) -> tuple[PageFigure, ...]:
    figures = []
    for column, rows in cells[cells["table"] == table].groupby("column", sort=False):
        content = (list(rows["row"]), list(rows["ours"]), list(rows["paper"]))
        caption = _seeds(rows["seed_count"])
        figures.append(_chart(label(str(column)), caption, f"cost-{column}", charts.draw_cost, *content))
    return _or_missing(figures, "Cost", f"the results have no table {table}")


def _seeds(counts: pd.Series) -> str:
    most = int(counts.max()) if len(counts) else 0
    return f"Mean of up to {most} seeds." if most > 1 else ONE_SEED


def _first_of(runs: Sequence[FinishedRun], names: Sequence[str]) -> list[FinishedRun]:
    """Returns the lowest seed of each run, in the order of the names."""
    first = {run.name: run for run in sorted(runs, key=lambda run: run.seed, reverse=True)}
    return [first[name] for name in names if name in first]
