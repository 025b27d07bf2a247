"""The node of the evaluation pipeline that turns captions into scores, intervals and items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.evaluation.benchmark import Benchmark, score_texts
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params.evaluation import EvaluationParams


def score_captions(
    predictions: list[dict[str, str]],
    benchmark: Benchmark,
    corpus: Corpus,
    feature_store: Path,
    params: EvaluationParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores the captions against all references; what cannot run is listed with its reason.

    Returns:
        The scores, and those that are means over images one by one: ``image_id``, ``measure``, ``value``.
    """
    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    added = {"scene_tuples": _scene_tuples(predictions, references, corpus)} if params.scene_tuples else {}
    return score_texts(predictions, references, corpus, params, feature_store=feature_store, added=added)


def _scene_tuples(
    predictions: list[dict[str, str]], references: Mapping[str, Sequence[str]], corpus: Corpus
) -> np.ndarray:
    from gmail_kedro.metrics.scene_tuples import tuple_f1

    if corpus.grammar is None:
        raise ValueError(
            f"evaluation.scene_tuples needs a corpus whose captions come from a grammar. {corpus.name!r} has none. "
            "Set it to false."
        )
    return tuple_f1({row["image_id"]: row["text"] for row in predictions}, references, corpus.grammar.facts)
