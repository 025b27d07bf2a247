"""Nodes of the evaluation pipeline: real test images on the frozen route."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus
from gmail_kedro.params import EvaluationParams, RunParams
from gmail_kedro.records.stored import StoredImages


@dataclass(frozen=True)
class Benchmark:
    """Embeddings of real evaluation images and their captions, all through the frozen teacher.

    Attributes:
        image_ids: The photographs, N of them.
        image: float32 [N, D].
        captions: The captions, M of them.
        text: float32 [M, D].
        text_image_index: Row in ``image`` of each caption's photograph, int64 [M].
        truncated_count: Captions longer than the text tower reads.
    """

    image_ids: list[str]
    image: torch.Tensor
    captions: list[str]
    text: torch.Tensor
    text_image_index: torch.Tensor
    truncated_count: int


def encode_benchmark(corpus: Corpus, feature_store: Path, params: EvaluationParams, run: RunParams) -> Benchmark:
    """Encodes the evaluation split: images once, captions once.

    Raises:
        ValueError: If the split has no photographs.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts
    from gmail_kedro.zoo.encoders import build_encoder

    device, settings = _inference(feature_store, run)
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    rows = _evaluation_rows(corpus, params)
    image_ids = list(dict.fromkeys(rows["image_id"]))
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    return Benchmark(
        image_ids=image_ids,
        image=encode_images(encoder, corpus.images, image_ids, **settings),
        captions=list(rows["caption"]),
        text=encode_texts(encoder, list(rows["caption"]), **settings),
        text_image_index=torch.tensor([position[image_id] for image_id in rows["image_id"]]),
        truncated_count=encoder.count_truncated(list(rows["caption"])),
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


def score_captions(predictions: list[dict[str, str]], benchmark: Benchmark, params: EvaluationParams) -> dict[str, Any]:
    """Scores the captions against all references; what cannot run is listed with its reason."""
    from gmail_kedro.metrics.captioning import caption_scores
    from gmail_kedro.metrics.statistics import bootstrap_interval

    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    result = caption_scores(
        {row["image_id"]: row["text"] for row in predictions}, references, tokenizer=params.caption_tokenizer
    )
    intervals = {
        name: asdict(bootstrap_interval(values, count=params.bootstrap_count, seed=params.seed))
        for name, values in result.per_image.items()
    }
    return {
        "scores": result.scores,
        "intervals": intervals,
        "unavailable": result.unavailable,
        "tokenizer": result.tokenizer,
    }


def score_retrieval(benchmark: Benchmark, params: EvaluationParams) -> dict[str, Any]:
    """Scores zero-shot retrieval in both directions, every image with all its captions."""
    from gmail_kedro.metrics.retrieval import retrieval_scores
    from gmail_kedro.metrics.statistics import bootstrap_interval

    result = retrieval_scores(benchmark.image, benchmark.text, benchmark.text_image_index)
    intervals = {}
    photographs = benchmark.text_image_index.numpy()  # captions of one photograph are resampled together
    for direction, hits, groups in (("i2t", result.i2t_hits, None), ("t2i", result.t2i_hits, photographs)):
        for k, values in hits.items():
            interval = bootstrap_interval(
                values.astype(float) * 100, count=params.bootstrap_count, seed=params.seed, groups=groups
            )
            intervals[f"{direction}_r{k}"] = asdict(interval)
    return {
        "scores": result.scores(),
        "intervals": intervals,
        "image_count": len(benchmark.image),
        "caption_count": len(benchmark.captions),
        "truncated_caption_count": benchmark.truncated_count,
    }


def score_classification(
    corpus: Corpus, benchmark: Benchmark, feature_store: Path, params: EvaluationParams, run: RunParams
) -> dict[str, Any]:
    """Scores the corpus's zero-shot tasks; a corpus without labels has none, and says so."""
    from gmail_kedro.engine.inference import encode_texts
    from gmail_kedro.metrics.classification import classification_result, zero_shot_weights
    from gmail_kedro.metrics.statistics import bootstrap_interval
    from gmail_kedro.zoo.encoders import build_encoder

    if not corpus.labels:
        return {"scores": {}, "intervals": {}, "unavailable": {"all": f"the corpus {corpus.name!r} has no labels"}}
    device, settings = _inference(feature_store, run)
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    for name, task in corpus.labels.items():
        rows = [row for row, image_id in enumerate(benchmark.image_ids) if image_id in task.labels]
        labels = torch.tensor([task.labels[benchmark.image_ids[row]] for row in rows])
        prompts = [template.format(label) for label in task.classes for template in task.templates]
        embeddings = encode_texts(encoder, prompts, **settings).view(len(task.classes), len(task.templates), -1)
        result = classification_result(benchmark.image[rows], zero_shot_weights(embeddings), labels)
        scores[f"{name}_acc1"] = result.acc1
        correct = np.asarray(result.correct, dtype=float) * 100
        intervals[f"{name}_acc1"] = asdict(bootstrap_interval(correct, count=params.bootstrap_count, seed=params.seed))
    return {"scores": scores, "intervals": intervals}


def collect_scores(
    captioning: dict[str, Any],
    retrieval: dict[str, Any],
    classification: dict[str, Any],
    gap: dict[str, Any],
    corpus: Corpus,
    generated_images: StoredImages,
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
            "real_path": "frozen",
            "seed": run.seed,
            "generator": generated_images.description.settings["generator"],
            "generated_set": generated_images.fingerprint,
            "generated_image_count": generated_images.description.image_count,
        },
    }


def _evaluation_rows(corpus: Corpus, params: EvaluationParams) -> pd.DataFrame:
    rows = corpus.captions[corpus.captions["split"] == params.split]
    if rows.empty:
        raise ValueError(
            f"The corpus {corpus.name!r} has no photographs in the split {params.split!r}. Its splits: "
            f"{sorted(corpus.captions['split'].unique())}. Set evaluation.split."
        )
    if params.image_count is None:
        return rows
    kept = set(list(dict.fromkeys(rows["image_id"]))[: params.image_count])
    return rows[rows["image_id"].isin(kept)]


def _inference(feature_store: Path, run: RunParams) -> tuple[torch.device, dict[str, Any]]:
    """Returns the device and the keyword arguments that every encoding call of a run shares."""
    from gmail_kedro.engine.features import FeatureStore
    from gmail_kedro.hardware import resolve_device

    device = resolve_device(run.device)
    return device, {
        "store": FeatureStore(feature_store),
        "batch_size": run.image_batch_size,
        "device": device,
        "precision": run.precision,
    }
