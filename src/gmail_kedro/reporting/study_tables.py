"""The table of a study: variants over several seeds, each compared with a baseline seed by seed and image by image.

A study is runs with seeds: they are read as the runs of the paper's tables are, and compared by the same computation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.comparison import difference
from gmail_kedro.reporting.finished_runs import find_runs
from gmail_kedro.reporting.plain_text import interval_text, markdown, markdown_table
from gmail_kedro.reporting.table_definitions import Column

GAP_MEASURES = ("probe_auc", "paired_cosine", "centroid_distance", "knn_mixing", "frechet_distance")
COLUMNS = (
    *(Column(measure, "gap", (), f"{measure}_after") for measure in GAP_MEASURES),
    *(Column(measure, "scores", ("captioning",), measure) for measure in ("cider", "rouge_l")),
    *(
        Column(measure, "scores", ("retrieval",), measure)
        for measure in ("tuned_i2t_r1", "tuned_t2i_r1", "i2t_r1", "t2i_r1")
    ),
)


def study_table(folder: Path, variants: Sequence[str], seeds: Sequence[int], *, baseline: str) -> pd.DataFrame:
    """Returns one row a variant and measure: mean over seeds, spread, and the difference from the baseline.

    Args:
        folder: Has a folder ``<variant>-<seed>`` for every run, with ``run.json``, ``gap.json`` and, where consumers
            were trained, ``scores.json`` and ``item_scores.parquet``.
        variants: Which runs are compared.
        seeds: The seeds of each; a variant's runs that are not there are left out and counted.
        baseline: The variant the others are compared with, within each seed.

    Returns:
        ``variant``, ``measure``, ``mean``, ``deviation`` (over seeds), ``seeds`` (how many), and ``difference``,
        ``low``, ``high``: the paired difference with its 95 % interval; for the gap, over seeds alone.
    """
    runs = {name: find_runs(folder, name, seeds) for name in dict.fromkeys([*variants, baseline])}
    rows = []
    for variant in variants:
        for column in COLUMNS:
            ours, theirs = (
                {seed: number for seed, run in runs[name].items() if (number := run.find(column)).value is not None}
                for name in (variant, baseline)
            )
            if not ours:
                continue
            shared = sorted(ours.keys() & theirs.keys())
            between, _ = difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])
            values = np.array([ours[seed].value for seed in sorted(ours)])
            row = {"variant": variant, "measure": column.name, "mean": values.mean(), "seeds": len(values)}
            row["deviation"] = values.std(ddof=1) if len(values) > 1 else np.nan
            rows.append(row | {"difference": between.mean, "low": between.low, "high": between.high})
    return pd.DataFrame(rows)


def study_markdown(table: pd.DataFrame, measures: Sequence[str], *, baseline: str) -> str:
    """Returns the table in Markdown: variants down, measures across, differences from the baseline in brackets.

    Args:
        table: As ``study_table`` returns it.
        measures: Which columns, in order.
        baseline: The variant whose own row has no differences.
    """
    shown = [measure for measure in measures if (table["measure"] == measure).any()]
    lines = []
    for variant, rows in table.groupby("variant", sort=False):
        by_measure = {row["measure"]: _cell_text(row, is_baseline=variant == baseline) for _, row in rows.iterrows()}
        cells = [by_measure.get(measure, "—") for measure in shown]
        lines.append([markdown(variant), str(int(rows["seeds"].max())), *cells])
    return "\n".join(markdown_table(["variant", "seeds", *shown], lines)) + "\n"


def _cell_text(row: "pd.Series[Any]", *, is_baseline: bool) -> str:
    digits = 1 if abs(row["mean"]) >= 5 else 3
    text = f"{row['mean']:.{digits}f}"
    if is_baseline or not np.isfinite(row["difference"]):
        return text
    return f"{text} ({row['difference']:+.{digits}f}{interval_text(row['low'], row['high'], f'+.{digits}f')})"
