"""Nodes of the reporting pipeline: pictures side by side, and the summary of all runs."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from gmail_kedro.interfaces import Corpus, GeneratedImages

logger = logging.getLogger(__name__)

PICTURE_COUNT = 8


def draw_pairs_figure(pairs: pd.DataFrame, corpus: Corpus, generated_images: GeneratedImages) -> Any:
    """Returns Fig. 2 for the first held-out photographs, a matplotlib ``Figure``."""
    from gmail_kedro.images.decoding import decode_image
    from gmail_kedro.reporting.figures import draw_pairs

    shown = pairs[pairs["split"] == "val"].drop_duplicates("image_id").head(PICTURE_COUNT)
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
    from gmail_kedro.reporting.summary import summarize

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
