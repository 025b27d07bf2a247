"""Nodes of the evaluation pipeline that turn captions and embeddings into scores, intervals and items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.benchmark import Benchmark, interval_of, item_rows, no_scores, real_route
from gmail_kedro.interfaces import ClassificationTask, Corpus
from gmail_kedro.metrics.captioning import CaptionResult, MetricUnavailableError
from gmail_kedro.params import EvaluationParams, RunParams
from gmail_kedro.zoo.student import StoredStudent

WORD_VECTOR_SEED = 0  # own vectors are part of the measure, not of the run: every run must use the same


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

    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    said = {row["image_id"]: row["text"] for row in predictions}
    result = caption_scores(said, references, tokenizer=params.caption_tokenizer, with_meteor=params.meteor)
    per_image, unavailable = dict(result.per_image), dict(result.unavailable)
    if params.scene_tuples:
        per_image["scene_tuples"] = _scene_tuples(said, references)
    try:
        per_image["wmd"] = _word_movers(result, corpus, feature_store, params)
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


def _word_movers(result: CaptionResult, corpus: Corpus, feature_store: Path, params: EvaluationParams) -> np.ndarray:
    """Returns the word mover's similarity of each image.

    Raises:
        MetricUnavailableError: If no vectors are given, or they cannot be read.
    """
    from gmail_kedro.metrics.captioning import tokenize_simple
    from gmail_kedro.metrics.word_movers import load_word_vectors, train_word_vectors, word_mover_scores

    if params.word_vectors is None:
        raise MetricUnavailableError("The word mover's similarity needs word vectors. Set evaluation.word_vectors.")
    if params.word_vectors == "own":
        training = corpus.captions.loc[corpus.captions["split"] == "train", "caption"]
        if training.empty:
            raise MetricUnavailableError("The corpus has no training captions for word vectors of its own.")
        sentences = [" ".join(tokenize_simple(caption)) for caption in training]
        vectors = train_word_vectors(sentences, feature_store, seed=WORD_VECTOR_SEED)
    else:
        try:
            vectors = load_word_vectors(Path(params.word_vectors))
        except (OSError, ValueError) as error:
            raise MetricUnavailableError(str(error)) from error
    return word_mover_scores(result.tokens, result.reference_tokens, vectors)


def score_classification(
    corpus: Corpus,
    benchmark: Benchmark,
    adapter: StoredStudent,
    feature_store: Path,
    params: EvaluationParams,
    run: RunParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores the corpus's zero-shot tasks; without labels, or without a text tower, there are none, and it says so.

    Returns:
        The scores, top-1 and mean per class of each task, and top-1 image by image.
    """
    from gmail_kedro.engine.inference import encode_texts, run_encoding
    from gmail_kedro.metrics.classification import classification_result, zero_shot_weights

    nothing = item_rows([], "acc1", np.zeros(0))
    if not corpus.labels:
        return no_scores(f"the corpus {corpus.name!r} has no labels"), nothing
    if benchmark.text is None:
        return no_scores(f"the encoder {run.encoder!r} reads no texts"), nothing
    encoding = run_encoding(feature_store, run)
    encoder = real_route(adapter, run, encoding.device)
    scores: dict[str, float] = {}
    intervals, items = {}, [nothing]
    for name, task in corpus.labels.items():
        rows = [row for row, image_id in enumerate(benchmark.image_ids) if image_id in task.labels]
        image_ids = [benchmark.image_ids[row] for row in rows]
        prompts = [template.format(label) for label in task.classes for template in task.templates]
        embeddings = encode_texts(encoder, prompts, encoding).view(len(task.classes), len(task.templates), -1)
        labels = torch.tensor([task.labels[image_id] for image_id in image_ids])
        result = classification_result(benchmark.image[rows], zero_shot_weights(embeddings), labels)
        scores |= {f"{name}_{measure}": value for measure, value in result.scores().items()}
        correct = result.correct * 100.0
        intervals[f"{name}_acc1"] = interval_of(correct, params)
        items.append(item_rows(image_ids, f"{name}_acc1", correct))
    return {"scores": scores, "intervals": intervals}, pd.concat(items)


def score_linear_probe(
    corpus: Corpus, adapter: StoredStudent, feature_store: Path, params: EvaluationParams, run: RunParams
) -> dict[str, Any]:
    """Trains a linear classifier on pooled features of the real route for each task, and scores its test split."""
    from gmail_kedro.engine.inference import encode_images, run_encoding
    from gmail_kedro.metrics.linear_probe import linear_probe

    if not params.linear_probe:
        return no_scores("evaluation.linear_probe is off")
    if not corpus.labels:
        return no_scores(f"the corpus {corpus.name!r} has no labels")
    encoding = run_encoding(feature_store, run)
    encoder = real_route(adapter, run, encoding.device)
    split_of = corpus.captions.drop_duplicates("image_id").set_index("image_id")["split"]
    scores: dict[str, float] = {}
    intervals, chosen = {}, {}
    for name, task in corpus.labels.items():
        keys = {split: _labelled(task, split_of, split) for split in ("train", "val", "test")}
        features = {
            split: encode_images(encoder, corpus.images, ids, encoding, view="pooled").numpy()
            for split, ids in keys.items()
        }
        labels = {split: np.array([task.labels[key] for key in ids]) for split, ids in keys.items()}
        probe = linear_probe(features, labels)
        scores |= {f"{name}_{measure}": value for measure, value in probe.result.scores().items()}
        intervals[f"{name}_acc1"] = interval_of(probe.result.correct * 100.0, params)
        chosen[name] = probe.weight_decay
    return {"scores": scores, "intervals": intervals, "weight_decay": chosen}


def _labelled(task: ClassificationTask, split_of: "pd.Series[str]", split: str) -> list[str]:
    return [image_id for image_id in split_of.index[split_of == split] if image_id in task.labels]
