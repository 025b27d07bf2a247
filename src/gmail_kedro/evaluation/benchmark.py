"""A captioned corpus as a benchmark: encoded through a run's real route, retrieval on it, and scores of its captions.

What the pipelines that measure on real images share. Scores are percentages; whatever is a mean over images comes
with its interval, and image by image for paired comparisons of runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.evaluation.splits import evaluation_rows
from gmail_kedro.interfaces import Corpus, FeatureOrigin
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams

RECALLS = tuple(f"{direction}_r{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10))


@dataclass(frozen=True)
class Benchmark:
    """Embeddings of N real evaluation images, through the real route, and of their M captions."""

    image_ids: list[str]
    image: torch.Tensor  # float32 [N, D]
    captions: list[str]
    text: torch.Tensor | None  # float32 [M, D]; None where the encoder reads no texts
    tuned_text: torch.Tensor | None  # the same through the text tower tuned downstream, where one was
    text_image_index: torch.Tensor  # row in image of each caption's image, int64 [M]
    truncated_count: int  # captions longer than the text tower reads
    origin: FeatureOrigin  # what made the image embeddings


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
        ValueError: If the split has no images, or not those of the retrieval protocol.
        FileNotFoundError: If an image is missing; evaluation stops rather than score what is left.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding
    from gmail_kedro.models.encoders.tuned_text_tower import put_text_tower
    from gmail_kedro.models.student.student import describe_origin

    encoding = run_encoding(feature_store, run)
    # The teacher, or what of the student real images go through: never the generated side's adapter.
    encoder = real_route(adapter, run, encoding.device)
    rows = evaluation_rows(corpus, params)
    image_ids, captions = list(dict.fromkeys(rows["image_id"])), list(rows["caption"])
    # Captions of an image need not stand together, and features of images are stored: each image is encoded once.
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    image = encode_images(encoder, corpus.images, image_ids, encoding)
    reads = encoder.text_tower is not None
    text = encode_texts(encoder, captions, encoding) if reads else None
    truncated_count = encoder.count_truncated(captions) if reads else 0
    origin = describe_origin(
        encoder, adapter, sides=["real"], map_kind=feature_map.kind, map_tensors=feature_map.statistics
    )
    # Only now: the tuned tower replaces the one that the zero-shot captions and the origin above are of.
    is_tuned = put_text_tower(encoder, text_tower)
    return Benchmark(
        image_ids=image_ids,
        image=image if feature_map.kind == "none" else feature_map.target(image),
        captions=captions,
        text=text,
        tuned_text=encode_texts(encoder, captions, encoding) if is_tuned else None,
        text_image_index=torch.tensor([position[image_id] for image_id in rows["image_id"]]),
        truncated_count=truncated_count,
        origin=origin,
    )


def real_route(adapter: StoredStudent, run: RunParams, device: torch.device) -> TowerEncoder:
    """Returns what real images go through."""
    from gmail_kedro.models.encoders.known_encoders import build_encoder
    from gmail_kedro.models.student.student import take_route

    return take_route(build_encoder(run.encoder, run.encoder_path, device=device), adapter, "real")


def score_retrieval(benchmark: Benchmark, params: EvaluationParams) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores retrieval in both directions, every image with all its captions.

    Returns:
        The scores: ``i2t_r1`` and the like are zero-shot, ``tuned_i2t_r1`` those of the text tower tuned downstream;
        and recall image by image: ``image_id``, ``measure``, ``value`` (text to image: mean over its captions).
    """
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    items = [item_rows([], "i2t_r1", np.zeros(0))]  # a table with its columns, also where nothing is measured
    for prefix, text in (("", benchmark.text), ("tuned_", benchmark.tuned_text)):
        if text is not None:
            found, around, by_image = _retrieval(benchmark, text, params)
            scores |= {f"{prefix}{name}": value for name, value in found.items()}
            intervals |= {f"{prefix}{name}": value for name, value in around.items()}
            items += [item_rows(benchmark.image_ids, f"{prefix}{name}", values) for name, values in by_image.items()]
    result = {
        "scores": scores,
        "intervals": intervals,
        "unavailable": _unavailable(benchmark),
        "protocol": params.retrieval_protocol,
        "image_count": len(benchmark.image),
        "caption_count": len(benchmark.captions),
        "truncated_caption_count": benchmark.truncated_count,
    }
    return result, pd.concat(items)


def _unavailable(benchmark: Benchmark) -> dict[str, str]:
    if benchmark.text is None:
        return {"all": f"the encoder {benchmark.origin.encoder!r} reads no texts"}
    reason = "no text tower was tuned downstream"
    return {} if benchmark.tuned_text is not None else {f"tuned_{name}": reason for name in RECALLS}


def _retrieval(
    benchmark: Benchmark, text: torch.Tensor, params: EvaluationParams
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Returns recalls, their intervals, and recall of each image."""
    from gmail_kedro.metrics.retrieval import retrieval_scores

    result = retrieval_scores(benchmark.image, text, benchmark.text_image_index)
    image_rows = benchmark.text_image_index.numpy()  # captions of one image are resampled together
    intervals = {
        f"{direction}_r{k}": interval_of(values.astype(float) * 100, params, groups)
        for direction, hits, groups in (("i2t", result.i2t_hits, None), ("t2i", result.t2i_hits, image_rows))
        for k, values in hits.items()
    }
    counts = np.bincount(image_rows)
    by_image = {f"i2t_r{k}": hits * 100.0 for k, hits in result.i2t_hits.items()} | {
        f"t2i_r{k}": np.bincount(image_rows, weights=hits * 100.0) / counts for k, hits in result.t2i_hits.items()
    }
    return result.scores(), intervals, by_image


def score_texts(
    predictions: Sequence[Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    corpus: Corpus,
    params: EvaluationParams,
    *,
    feature_store: Path,
    added: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores what a model says of images; what cannot run is listed with its reason.

    Args:
        predictions: ``image_id`` and ``text`` of each image.
        references: The true captions of each, by ``image_id``.
        corpus: Word vectors of its own are made from its training captions.
        params: Tokenizer, METEOR, word vectors, and the resampling.
        feature_store: Where word vectors are kept.
        added: More measures by name, [N] in the order of ``references``.

    Returns:
        Scores in percent with their intervals, and what each image contributes: ``image_id``, ``measure``,
        ``value``.

    Raises:
        ValueError: If an image lacks a prediction or a reference.
    """
    from gmail_kedro.metrics.caption_scores import MetricUnavailableError, caption_scores
    from gmail_kedro.metrics.word_movers import score_result

    # Every reference needs a prediction: scores of the images that a model found easy would be another benchmark.
    said = {row["image_id"]: row["text"] for row in predictions}
    result = caption_scores(said, references, tokenizer=params.caption_tokenizer, with_meteor=params.meteor)
    per_image, unavailable = dict(result.per_image) | dict(added or {}), dict(result.unavailable)
    captions = corpus.captions
    # Of the training captions alone: vectors that know the references would rate them as closer than they are.
    training = list(captions.loc[captions["split"] == "train", "caption"])
    try:
        per_image["wmd"] = score_result(result, training, word_vectors=params.word_vectors, folder=feature_store)
    except MetricUnavailableError as error:  # word vectors are a download that many machines do not have
        unavailable["wmd"] = str(error)
    scores = {
        "scores": {name: float(values.mean()) for name, values in per_image.items()} | result.scores,
        "intervals": {name: interval_of(values, params) for name, values in per_image.items()},
        "unavailable": unavailable,
        "tokenizer": result.tokenizer,
        "word_vectors": params.word_vectors,
    }
    return scores, pd.concat([item_rows(result.image_ids, name, values) for name, values in per_image.items()])


def no_scores(reason: str) -> dict[str, Any]:
    """Returns a group of scores without any, and why."""
    return {"scores": {}, "intervals": {}, "unavailable": {"all": reason}}


def interval_of(values: np.ndarray, params: EvaluationParams, groups: np.ndarray | None = None) -> dict[str, float]:
    """Returns mean, low and high of values by the bootstrap; ``groups`` are resampled whole."""
    from gmail_kedro.metrics.statistics import bootstrap_interval

    return asdict(bootstrap_interval(values, count=params.bootstrap_count, seed=params.seed, groups=groups))


def item_rows(image_ids: Sequence[str], measure: str, values: np.ndarray) -> pd.DataFrame:
    """Returns one measure, image by image: ``image_id``, ``measure``, ``value``."""
    return pd.DataFrame({"image_id": list(image_ids), "measure": measure, "value": values.astype(float)})
