"""The node of the evaluation pipeline that turns captions into scores, intervals and items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.benchmark import Benchmark, interval_of, item_rows
from gmail_kedro.interfaces import Corpus
from gmail_kedro.metrics.captioning import MetricUnavailableError
from gmail_kedro.params import EvaluationParams


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
    from gmail_kedro.metrics.captioning import caption_scores
    from gmail_kedro.metrics.word_movers import score_result

    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    said = {row["image_id"]: row["text"] for row in predictions}
    result = caption_scores(said, references, tokenizer=params.caption_tokenizer, with_meteor=params.meteor)
    per_image, unavailable = dict(result.per_image), dict(result.unavailable)
    if params.scene_tuples:
        per_image["scene_tuples"] = _scene_tuples(said, references)
    captions = corpus.captions
    training = list(captions.loc[captions["split"] == "train", "caption"])
    try:
        per_image["wmd"] = score_result(result, training, word_vectors=params.word_vectors, folder=feature_store)
    except MetricUnavailableError as error:
        unavailable["wmd"] = str(error)
    scores = {
        "scores": result.scores | {name: float(values.mean()) for name, values in per_image.items()},
        "intervals": {name: interval_of(values, params) for name, values in per_image.items()},
        "unavailable": unavailable,
        "tokenizer": result.tokenizer,
        "word_vectors": params.word_vectors,
    }
    return scores, pd.concat([item_rows(result.image_ids, name, values) for name, values in per_image.items()])


def _scene_tuples(said: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> np.ndarray:
    from gmail_kedro.metrics.scene_tuples import tuple_f1
    from gmail_kedro.mini.tuples import scene_tuples

    return tuple_f1(said, references, scene_tuples)
