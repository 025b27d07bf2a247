"""Nodes of the pipelines `reporting`, about one run, and `comparison`, about two."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from gmail_kedro.interfaces import Corpus, GeneratedImages

logger = logging.getLogger(__name__)

PAIR_COUNT, CAPTIONED_COUNT = 8, 6  # images of a figure


def draw_pairs_figure(pairs: pd.DataFrame, corpus: Corpus, generated_images: GeneratedImages) -> Any:
    """Returns Fig. 2 for the first held-out real images, a matplotlib ``Figure``."""
    from gmail_kedro.images.decoding import decode_image
    from gmail_kedro.reporting.run_figures import draw_pairs

    shown = pairs[pairs["split"] == "val"].drop_duplicates("image_id").head(PAIR_COUNT)
    real = [decode_image(corpus.images.read(key), name=key) for key in shown["real_key"]]
    generated = [decode_image(generated_images.read(key), name=key) for key in shown["generated_key"]]
    return draw_pairs(real, generated, list(shown["caption"]))


def measure_cost(
    alignment: pd.DataFrame, captioner: pd.DataFrame, retriever: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Returns what each training of the run took: time, steps to convergence, FLOPs, memory, energy, parameters.

    ``total`` is student and captioner together; the text tower is not among what the paper trains.

    Raises:
        ValueError: If a history has not all steps of its training: the cost of a part is no cost.
    """
    from gmail_kedro.metrics.cost import total_cost, training_cost
    from gmail_kedro.reporting.report_files import missing_steps

    histories = {"alignment": alignment, "captioner": captioner, "retriever": retriever}
    for name, history in histories.items():
        if reason := missing_steps(history):
            raise ValueError(
                f"The run's {name}_history.csv is not whole: {reason}. Train it again, or bring the whole file back."
            )
    costs = {name: training_cost(history) for name, history in histories.items()}
    return costs | {"total": total_cost([costs["alignment"], costs["captioner"]])}


def summarize_runs(all_scores: Mapping[str, Callable[[], dict[str, Any]]], scores: dict[str, Any], run_id: str) -> str:
    """Returns the summary of this run beside every comparable run that has scores; runs of studies are left out."""
    from gmail_kedro.reporting.plain_text import one_line
    from gmail_kedro.reporting.run_summary import summarize

    others, damaged = {}, {}
    for name, load in sorted(all_scores.items()):
        if name != run_id and "/" not in name:
            try:
                others[name] = _with_protocol(load())
            except Exception as error:  # whatever is wrong with another run's file, this run has its summary
                damaged[name] = f"its scores.json is damaged: {one_line(error)}"
                logger.warning("The summary goes without the run %s: %s", name, damaged[name])
    return summarize(run_id, scores, others, damaged)


def _with_protocol(scores: Any) -> dict[str, Any]:
    if not isinstance(scores, dict) or not isinstance(scores.get("protocol"), dict):
        raise ValueError("it has no protocol")
    return scores


def compare_items(
    items: pd.DataFrame,
    baseline_items: pd.DataFrame,
    scores: dict[str, Any],
    baseline_scores: dict[str, Any],
    run_id: str,
    baseline: str,
) -> tuple[dict[str, Any], str]:
    """Tests, measure by measure, whether a run differs from another on the same images.

    Returns:
        For each measure both means, their difference with its 95 % bootstrap interval over images, and the p-value of
        a paired permutation test; and the same as a Markdown table.

    Raises:
        ValueError: If the two were not measured by one protocol, or share no measure on the same images.
    """
    from gmail_kedro.reporting.comparison import compare_two_runs, comparison_markdown, differing_protocol

    ours, theirs = scores["protocol"], baseline_scores["protocol"]
    if apart := differing_protocol(ours, theirs):
        raise ValueError(
            f"The runs {run_id!r} and {baseline!r} cannot be compared: they differ in {', '.join(apart)}. "
            "Evaluate both in the same way and run the comparison again."
        )
    tests = compare_two_runs(items, baseline_items)
    if not tests:
        raise ValueError(f"The runs {run_id!r} and {baseline!r} have no measure on the same images.")
    comparison = {
        "run": run_id,
        "baseline": baseline,
        "training_seeds": {"run": ours["seed"], "baseline": theirs["seed"], "count": 1},
        "tests": tests,
    }
    return comparison, comparison_markdown(comparison)


def draw_captions_figure(
    corpus: Corpus,
    predictions: list[dict[str, str]],
    baseline_predictions: list[dict[str, str]],
    items: pd.DataFrame,
    baseline_items: pd.DataFrame,
    run_id: str,
    baseline: str,
) -> Any:
    """Returns real images with the captions of both runs, a matplotlib ``Figure``.

    They are taken at even distances from those ordered by the difference in CIDEr: the baseline's largest win first,
    the run's last, so that neither side's favourites are picked.
    """
    from gmail_kedro.images.decoding import decode_image
    from gmail_kedro.reporting.run_figures import draw_captions

    said, said_before = ({row["image_id"]: row["text"] for row in rows} for rows in (predictions, baseline_predictions))
    cider, cider_before = (
        table[table["measure"] == "cider"].set_index("image_id")["value"] for table in (items, baseline_items)
    )
    gain = (cider - cider_before).dropna().sort_values(kind="stable")
    count = min(CAPTIONED_COUNT, len(gain))
    shown = [gain.index[round(place * (len(gain) - 1) / max(1, count - 1))] for place in range(count)]
    return draw_captions(
        [decode_image(corpus.images.read(key), name=key) for key in shown],
        {baseline: [said_before[key] for key in shown], run_id: [said[key] for key in shown]},
        [f"CIDEr {gain[key]:+.0f}" for key in shown],
    )
