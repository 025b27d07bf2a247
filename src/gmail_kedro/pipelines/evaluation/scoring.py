"""Nodes of the evaluation pipeline that turn captions and embeddings into scores, intervals and items."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.interfaces import ClassificationTask, Corpus
from gmail_kedro.metrics.captioning import MetricUnavailableError
from gmail_kedro.params import EvaluationParams, RunParams
from gmail_kedro.pipelines.evaluation.nodes import Benchmark, real_route
from gmail_kedro.zoo.student import StoredStudent


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
        "intervals": {name: _interval(values, params) for name, values in per_image.items()},
        "unavailable": unavailable,
        "tokenizer": result.tokenizer,
        "word_vectors": params.word_vectors,
    }
    return scores, pd.concat([_items(result.image_ids, name, values) for name, values in per_image.items()])


def _scene_tuples(said: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> np.ndarray:
    from gmail_kedro.metrics.scene_tuples import tuple_f1
    from gmail_kedro.mini.tuples import scene_tuples

    return tuple_f1(said, references, scene_tuples)


def score_retrieval(benchmark: Benchmark, params: EvaluationParams) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores retrieval in both directions, every image with all its captions.

    Returns:
        The scores: ``i2t_r1`` and the like are zero-shot, ``tuned_i2t_r1`` those of the text tower tuned downstream;
        and recall at 1 image by image: ``image_id``, ``measure``, ``value`` (text to image: mean over its captions).
    """
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    items = [_items([], "i2t_r1", np.zeros(0))]
    for prefix, text in (("", benchmark.text), ("tuned_", benchmark.tuned_text)):
        if text is not None:
            found, around, by_image = _retrieval(benchmark, text, params)
            scores |= {f"{prefix}{name}": value for name, value in found.items()}
            intervals |= {f"{prefix}{name}": value for name, value in around.items()}
            items += [_items(benchmark.image_ids, f"{prefix}{name}", values) for name, values in by_image.items()]
    result = {
        "scores": scores,
        "intervals": intervals,
        "protocol": params.retrieval_protocol,
        "image_count": len(benchmark.image),
        "caption_count": len(benchmark.captions),
        "truncated_caption_count": benchmark.truncated_count,
    }
    return result, pd.concat(items)


def _retrieval(
    benchmark: Benchmark, text: torch.Tensor, params: EvaluationParams
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Returns recalls, their intervals, and recall at 1 of each image."""
    from gmail_kedro.metrics.retrieval import retrieval_scores

    result = retrieval_scores(benchmark.image, text, benchmark.text_image_index)
    photographs = benchmark.text_image_index.numpy()  # captions of one photograph are resampled together
    intervals = {
        f"{direction}_r{k}": _interval(values.astype(float) * 100, params, groups)
        for direction, hits, groups in (("i2t", result.i2t_hits, None), ("t2i", result.t2i_hits, photographs))
        for k, values in hits.items()
    }
    t2i = np.bincount(photographs, weights=result.t2i_hits[1] * 100.0) / np.bincount(photographs)
    return result.scores(), intervals, {"i2t_r1": result.i2t_hits[1] * 100.0, "t2i_r1": t2i}


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

    nothing = _items([], "acc1", np.zeros(0))
    if not corpus.labels:
        return _no_scores(f"the corpus {corpus.name!r} has no labels"), nothing
    if benchmark.text is None:
        return _no_scores(f"the encoder {run.encoder!r} reads no texts"), nothing
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
        intervals[f"{name}_acc1"] = _interval(correct, params)
        items.append(_items(image_ids, f"{name}_acc1", correct))
    return {"scores": scores, "intervals": intervals}, pd.concat(items)


def score_linear_probe(
    corpus: Corpus, adapter: StoredStudent, feature_store: Path, params: EvaluationParams, run: RunParams
) -> dict[str, Any]:
    """Trains a linear classifier on pooled features of the real route for each task, and scores its test split."""
    from gmail_kedro.engine.inference import encode_images, run_encoding
    from gmail_kedro.metrics.linear_probe import linear_probe

    if not params.linear_probe:
        return _no_scores("evaluation.linear_probe is off")
    if not corpus.labels:
        return _no_scores(f"the corpus {corpus.name!r} has no labels")
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
        intervals[f"{name}_acc1"] = _interval(probe.result.correct * 100.0, params)
        chosen[name] = probe.weight_decay
    return {"scores": scores, "intervals": intervals, "weight_decay": chosen}


def _labelled(task: ClassificationTask, split_of: "pd.Series[str]", split: str) -> list[str]:
    return [image_id for image_id in split_of.index[split_of == split] if image_id in task.labels]


def _no_scores(reason: str) -> dict[str, Any]:
    return {"scores": {}, "intervals": {}, "unavailable": {"all": reason}}


def _interval(values: np.ndarray, params: EvaluationParams, groups: np.ndarray | None = None) -> dict[str, float]:
    from gmail_kedro.metrics.statistics import bootstrap_interval

    return asdict(bootstrap_interval(values, count=params.bootstrap_count, seed=params.seed, groups=groups))


def _items(image_ids: Sequence[str], measure: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(image_ids), "measure": measure, "value": values.astype(float)})
