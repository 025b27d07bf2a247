"""The table of a study: variants over several seeds, each compared with a baseline run by run and image by image."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from gmail_kedro.metrics.statistics import Interval, crossed_difference
from gmail_kedro.reporting.plain_text import markdown
from gmail_kedro.reporting.report_files import DamagedReportError, read_items, read_report

logger = logging.getLogger(__name__)

RESAMPLES = 2000
GAP_MEASURES = ("probe_auc", "paired_cosine", "centroid_distance", "knn_mixing", "frechet_distance")
Values: TypeAlias = "np.ndarray | pd.Series[float]"  # one number, or one an image, by its id
ITEM_MEASURES = ("cider", "rouge_l", "tuned_i2t_r1", "tuned_t2i_r1", "i2t_r1", "t2i_r1")


def study_table(folder: Path, variants: Sequence[str], seeds: Sequence[int], *, baseline: str) -> pd.DataFrame:
    """Returns one row a variant and measure: mean over seeds, spread, and the difference from the baseline.

    Args:
        folder: Has a folder ``<variant>-<seed>`` for every run, with ``gap.json`` and, where consumers were trained,
            ``item_scores.parquet``.
        variants: Which runs are compared.
        seeds: The seeds of each; a variant's runs that are not there are left out and counted.
        baseline: The variant the others are compared with, within each seed.

    Returns:
        ``variant``, ``measure``, ``mean``, ``deviation`` (over seeds), ``seeds`` (how many), and ``difference``,
        ``low``, ``high``: the paired difference with its 95 % interval; for the gap, over seeds alone.
    """
    rows = []
    runs = {variant: _scores_by_seed(folder, variant, seeds) for variant in variants}
    for variant in variants:
        for measure in (*GAP_MEASURES, *ITEM_MEASURES):
            values, reference = (
                {seed: scores[measure] for seed, scores in runs[name].items() if measure in scores}
                for name in (variant, baseline)
            )
            rows.append(_row(variant, measure, values, reference))
    return pd.DataFrame([row for row in rows if row is not None])


def study_markdown(table: pd.DataFrame, measures: Sequence[str], *, baseline: str) -> str:
    """Returns the table in Markdown: variants down, measures across, differences from the baseline in brackets.

    Args:
        table: As ``study_table`` returns it.
        measures: Which columns, in order.
        baseline: The variant whose own row has no differences.
    """
    shown = [measure for measure in measures if (table["measure"] == measure).any()]
    lines = ["| variant | seeds | " + " | ".join(shown) + " |", "|---|---|" + "---|" * len(shown)]
    for variant, rows in table.groupby("variant", sort=False):
        by_measure = rows.set_index("measure")
        cells = [
            _cell(by_measure.loc[measure], is_baseline=variant == baseline) if measure in by_measure.index else "—"
            for measure in shown
        ]
        lines.append(f"| {markdown(variant)} | {int(rows['seeds'].max())} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _row(
    variant: str, measure: str, values: Mapping[int, Values], reference: Mapping[int, Values]
) -> dict[str, Any] | None:
    if not values:
        return None
    by_seed = np.array([np.mean(values[seed]) for seed in sorted(values)])
    row = {"variant": variant, "measure": measure, "mean": by_seed.mean(), "seeds": len(by_seed)}
    row["deviation"] = by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan
    shared = sorted(values.keys() & reference.keys())
    between = _difference([values[seed] for seed in shared], [reference[seed] for seed in shared])
    return row | {"difference": between.mean, "low": between.low, "high": between.high}


def _difference(values: Sequence[Values], reference: Sequence[Values]) -> Interval:
    if not values:
        return Interval(np.nan, np.nan, np.nan)
    together = pd.concat([pd.Series(item) for item in (*values, *reference)], axis=1)
    if together.isna().any(axis=None):  # of other photographs: nothing to pair
        return Interval(np.nan, np.nan, np.nan)
    first, second = np.split(together.to_numpy().T, 2)
    if first.size == 1:  # one number says nothing about its spread
        return Interval(float(first[0, 0] - second[0, 0]), np.nan, np.nan)
    return crossed_difference(first, second, count=RESAMPLES, seed=0)


def _scores_by_seed(folder: Path, variant: str, seeds: Sequence[int]) -> dict[int, dict[str, Values]]:
    """Returns for each seed that was run every measure: one value for the gap, one an image for the others."""
    found: dict[int, dict[str, Values]] = {}
    for seed in seeds:
        run = folder / f"{variant}-{seed}"
        try:
            gap, table = read_report(run / "gap.json"), read_items(run / "item_scores.parquet")
        except DamagedReportError as reason:
            logger.warning("The study goes without a run: %s.", reason)
            continue
        if gap is not None:
            scores = gap["scores"]
            measured = [measure for measure in GAP_MEASURES if f"{measure}_after" in scores]
            found[seed] = {measure: np.array(scores[f"{measure}_after"]) for measure in measured}
        if table is not None:
            by_measure = table.set_index("image_id").groupby("measure")
            found.setdefault(seed, {}).update({name: rows["value"] for name, rows in by_measure})
    return found


def _cell(row: "pd.Series[Any]", *, is_baseline: bool) -> str:
    digits = 1 if abs(row["mean"]) >= 5 else 3
    text = f"{row['mean']:.{digits}f}"
    if is_baseline or not np.isfinite(row["difference"]):
        return text
    between = f" [{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]" if np.isfinite(row["low"]) else ""
    return f"{text} ({row['difference']:+.{digits}f}{between})"
