"""Nodes that set one run beside another: paired tests on the same photographs, and both runs' captions under them."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from gmail_kedro.interfaces import Corpus
from gmail_kedro.metrics.statistics import paired_difference, permutation_p_value
from gmail_kedro.reporting.plain_text import markdown
from gmail_kedro.reporting.summary import differing_protocol

RESAMPLES, PERMUTATIONS, SEED = 2000, 10_000, 0
PICTURE_COUNT = 6


def compare_items(
    items: pd.DataFrame,
    baseline_items: pd.DataFrame,
    scores: dict[str, Any],
    baseline_scores: dict[str, Any],
    run_id: str,
    baseline: str,
) -> tuple[dict[str, Any], str]:
    """Tests, measure by measure, whether a run differs from another on the same photographs.

    Returns:
        For each measure both means, their difference with its 95 % bootstrap interval over photographs, and the p-value
        of a paired permutation test; and the same as a Markdown table.

    Raises:
        ValueError: If the two were not measured by one protocol, or share no measure on the same photographs.
    """
    apart = differing_protocol(scores["protocol"], baseline_scores["protocol"])
    if apart:
        raise ValueError(
            f"The runs {run_id!r} and {baseline!r} cannot be compared: they differ in {', '.join(apart)}. "
            "Evaluate both in the same way and run the comparison again."
        )
    first, second = (
        table.pivot(index="image_id", columns="measure", values="value") for table in (items, baseline_items)
    )
    tests = {}
    for measure in first.columns.intersection(second.columns):
        pair = pd.concat([first[measure], second[measure]], axis=1, keys=["run", "baseline"], sort=True).dropna()
        if len(pair) == first[measure].count() == second[measure].count() > 0:
            tests[measure] = _test(pair)
    if not tests:
        raise ValueError(f"The runs {run_id!r} and {baseline!r} have no measure on the same photographs.")
    seeds = (scores["protocol"]["seed"], baseline_scores["protocol"]["seed"])
    comparison = {
        "run": run_id,
        "baseline": baseline,
        "training_seeds": {"run": seeds[0], "baseline": seeds[1], "count": 1},
        "tests": tests,
    }
    return comparison, _markdown(comparison)


def draw_captions_figure(
    corpus: Corpus,
    predictions: list[dict[str, str]],
    baseline_predictions: list[dict[str, str]],
    items: pd.DataFrame,
    baseline_items: pd.DataFrame,
    run_id: str,
    baseline: str,
) -> Any:
    """Returns real photographs with the captions of both runs, a matplotlib ``Figure``.

    The photographs are taken at even distances from those ordered by the difference in CIDEr: the baseline's largest
    win first, the run's last, so that neither side's favourites are picked.
    """
    from gmail_kedro.images.decoding import decode_image
    from gmail_kedro.reporting.figures import draw_captions

    said, said_before = ({row["image_id"]: row["text"] for row in rows} for rows in (predictions, baseline_predictions))
    cider, cider_before = (
        table[table["measure"] == "cider"].set_index("image_id")["value"] for table in (items, baseline_items)
    )
    gain = (cider - cider_before).dropna().sort_values(kind="stable")
    count = min(PICTURE_COUNT, len(gain))
    shown = [gain.index[round(place * (len(gain) - 1) / max(1, count - 1))] for place in range(count)]
    return draw_captions(
        [decode_image(corpus.images.read(key), name=key) for key in shown],
        {baseline: [said_before[key] for key in shown], run_id: [said[key] for key in shown]},
        [f"CIDEr {gain[key]:+.0f}" for key in shown],
    )


def _test(pair: pd.DataFrame) -> dict[str, Any]:
    run, baseline = pair["run"].to_numpy(), pair["baseline"].to_numpy()
    return {
        "image_count": len(pair),
        "run": float(run.mean()),
        "baseline": float(baseline.mean()),
        "difference": asdict(paired_difference(run, baseline, count=RESAMPLES, seed=SEED)),
        "p_value": permutation_p_value(run, baseline, count=PERMUTATIONS, seed=SEED),
    }


def _markdown(comparison: dict[str, Any]) -> str:
    run, baseline = markdown(comparison["run"]), markdown(comparison["baseline"])
    lines = [
        f"# {run} against {baseline}",
        "",
        "Paired over the same photographs: difference with its 95 % bootstrap interval, and the p-value of a paired "
        f"permutation test, not corrected for the {len(comparison['tests'])} measures. **One training seed each**: "
        "this says nothing about other seeds; `gmail-kedro study` does.",
        "",
        f"| measure | images | {baseline} | {run} | difference | p |",
        "|---|---|---|---|---|---|",
    ]
    for measure, test in comparison["tests"].items():
        by = test["difference"]
        lines.append(
            f"| {markdown(measure)} | {test['image_count']} | {test['baseline']:.1f} | {test['run']:.1f} | "
            f"{by['mean']:+.2f} [{by['low']:+.2f}, {by['high']:+.2f}] | {test['p_value']:.4f} |"
        )
    return "\n".join(lines) + "\n"
