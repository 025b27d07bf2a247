"""Nodes of the evaluation pipeline: real images on the real route."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.corpora.splits import split_rows
from gmail_kedro.interfaces import Corpus
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.params import EvaluationParams, RunParams
from gmail_kedro.records.stored import StoredImages
from gmail_kedro.zoo.student import StoredStudent
from gmail_kedro.zoo.towers import TowerEncoder


@dataclass(frozen=True)
class Benchmark:
    """Embeddings of real evaluation images, through the real route, and of their captions.

    Attributes:
        image_ids: The photographs, N of them.
        image: float32 [N, D].
        captions: The captions, M of them.
        text: float32 [M, D], or None where the encoder reads no texts.
        tuned_text: The same through the text tower tuned downstream, or None where none was.
        text_image_index: Row in ``image`` of each caption's photograph, int64 [M].
        truncated_count: Captions longer than the text tower reads.
    """

    image_ids: list[str]
    image: torch.Tensor
    captions: list[str]
    text: torch.Tensor | None
    tuned_text: torch.Tensor | None
    text_image_index: torch.Tensor
    truncated_count: int


def encode_benchmark(
    corpus: Corpus,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    text_tower: Path,
    feature_store: Path,
    params: EvaluationParams,
    run: RunParams,
) -> Benchmark:
    """Encodes the evaluation split through the real route: images once, captions before and after tuning.

    Raises:
        ValueError: If the split has no photographs.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding
    from gmail_kedro.zoo.text_tower import put_text_tower

    encoding = run_encoding(feature_store, run)
    encoder = _real_route(adapter, run, encoding.device)
    rows = split_rows(corpus, params.split, image_count=params.image_count)
    image_ids, captions = list(dict.fromkeys(rows["image_id"])), list(rows["caption"])
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    image = encode_images(encoder, corpus.images, image_ids, encoding)
    reads = encoder.text_tower is not None
    text = encode_texts(encoder, captions, encoding) if reads else None
    truncated_count = encoder.count_truncated(captions) if reads else 0
    is_tuned = put_text_tower(encoder, text_tower)
    return Benchmark(
        image_ids=image_ids,
        image=image if feature_map.kind == "none" else feature_map.target(image),
        captions=captions,
        text=text,
        tuned_text=encode_texts(encoder, captions, encoding) if is_tuned else None,
        text_image_index=torch.tensor([position[image_id] for image_id in rows["image_id"]]),
        truncated_count=truncated_count,
    )


def write_captions(
    captioner: Path, benchmark: Benchmark, params: EvaluationParams, run: RunParams, max_tokens: int
) -> list[dict[str, str]]:
    """Captions every evaluation image: rows of ``image_id`` and ``text``."""
    from tqdm import tqdm

    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.zoo.captioner import load_captioner

    device = resolve_device(run.device)
    model = load_captioner(captioner, device=device)
    starts = range(0, len(benchmark.image), run.image_batch_size)
    texts: list[str] = []
    with fast_arithmetic(device, precision="float32"):
        for start in tqdm(starts, desc="Captioning", disable=None):
            part = benchmark.image[start : start + run.image_batch_size].to(device)
            texts += model.caption(part, beam_size=params.beam_size, max_tokens=max_tokens)
    return [{"image_id": key, "text": text} for key, text in zip(benchmark.image_ids, texts, strict=True)]


def score_captions(
    predictions: list[dict[str, str]], benchmark: Benchmark, params: EvaluationParams
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores the captions against all references; what cannot run is listed with its reason.

    Returns:
        The scores, and those that are means over images one by one: ``image_id``, ``measure``, ``value``.
    """
    from gmail_kedro.metrics.captioning import caption_scores
    from gmail_kedro.metrics.statistics import bootstrap_interval

    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    result = caption_scores(
        {row["image_id"]: row["text"] for row in predictions},
        references,
        tokenizer=params.caption_tokenizer,
        with_meteor=params.meteor,
    )
    intervals = {
        name: asdict(bootstrap_interval(values, count=params.bootstrap_count, seed=params.seed))
        for name, values in result.per_image.items()
    }
    scores = {
        "scores": result.scores,
        "intervals": intervals,
        "unavailable": result.unavailable,
        "tokenizer": result.tokenizer,
    }
    return scores, pd.concat([_items(result.image_ids, name, values) for name, values in result.per_image.items()])


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
    from gmail_kedro.metrics.statistics import bootstrap_interval

    result = retrieval_scores(benchmark.image, text, benchmark.text_image_index)
    intervals = {}
    photographs = benchmark.text_image_index.numpy()  # captions of one photograph are resampled together
    for direction, hits, groups in (("i2t", result.i2t_hits, None), ("t2i", result.t2i_hits, photographs)):
        for k, values in hits.items():
            interval = bootstrap_interval(
                values.astype(float) * 100, count=params.bootstrap_count, seed=params.seed, groups=groups
            )
            intervals[f"{direction}_r{k}"] = asdict(interval)
    t2i = np.bincount(photographs, weights=result.t2i_hits[1] * 100.0) / np.bincount(photographs)
    return result.scores(), intervals, {"i2t_r1": result.i2t_hits[1] * 100.0, "t2i_r1": t2i}


def _items(image_ids: Sequence[str], measure: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(image_ids), "measure": measure, "value": values.astype(float)})


def score_classification(
    corpus: Corpus,
    benchmark: Benchmark,
    adapter: StoredStudent,
    feature_store: Path,
    params: EvaluationParams,
    run: RunParams,
) -> dict[str, Any]:
    """Scores the corpus's zero-shot tasks; without labels, or without a text tower, there are none, and it says so."""
    from gmail_kedro.engine.inference import encode_texts, run_encoding
    from gmail_kedro.metrics.classification import classification_result, zero_shot_weights
    from gmail_kedro.metrics.statistics import bootstrap_interval

    if not corpus.labels:
        return {"scores": {}, "intervals": {}, "unavailable": {"all": f"the corpus {corpus.name!r} has no labels"}}
    if benchmark.text is None:
        return {"scores": {}, "intervals": {}, "unavailable": {"all": f"the encoder {run.encoder!r} reads no texts"}}
    encoding = run_encoding(feature_store, run)
    encoder = _real_route(adapter, run, encoding.device)
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    for name, task in corpus.labels.items():
        rows = [row for row, image_id in enumerate(benchmark.image_ids) if image_id in task.labels]
        labels = torch.tensor([task.labels[benchmark.image_ids[row]] for row in rows])
        prompts = [template.format(label) for label in task.classes for template in task.templates]
        embeddings = encode_texts(encoder, prompts, encoding).view(len(task.classes), len(task.templates), -1)
        result = classification_result(benchmark.image[rows], zero_shot_weights(embeddings), labels)
        scores[f"{name}_acc1"] = result.acc1
        correct = np.asarray(result.correct, dtype=float) * 100
        intervals[f"{name}_acc1"] = asdict(bootstrap_interval(correct, count=params.bootstrap_count, seed=params.seed))
    return {"scores": scores, "intervals": intervals}


def collect_items(captioning_items: pd.DataFrame, retrieval_items: pd.DataFrame) -> pd.DataFrame:
    """Returns all scores that are means over images, image by image, for paired comparisons of runs."""
    return pd.concat([captioning_items, retrieval_items], ignore_index=True)


def collect_scores(
    captioning: dict[str, Any],
    retrieval: dict[str, Any],
    classification: dict[str, Any],
    gap: dict[str, Any],
    corpus: Corpus,
    generated_images: StoredImages,
    adapter: StoredStudent,
    evaluation: EvaluationParams,
    run: RunParams,
) -> dict[str, Any]:
    """Gathers a run's results with what they were measured on."""
    return {
        "captioning": captioning,
        "retrieval": retrieval,
        "classification": classification,
        "gap": gap,
        "protocol": {
            "corpus": corpus.name,
            "split": evaluation.split,
            "image_count": retrieval["image_count"],
            "encoder": run.encoder,
            "real_path": adapter.spec.real_path,
            "seed": run.seed,
            "generator": generated_images.description.settings["generator"],
            "generated_set": generated_images.fingerprint,
            "generated_image_count": generated_images.description.image_count,
        },
    }


def _real_route(adapter: StoredStudent, run: RunParams, device: torch.device) -> TowerEncoder:
    """Returns what real images go through."""
    from gmail_kedro.zoo.encoders import build_encoder
    from gmail_kedro.zoo.student import take_route

    return take_route(build_encoder(run.encoder, run.encoder_path, device=device), adapter, "real")
