"""Nodes of the evaluation pipeline: real images on the real route."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.evaluation.benchmark import Benchmark, score_texts
from gmail_kedro.generated_sets.stored_images import ShardImages
from gmail_kedro.interfaces import Corpus
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams


def write_captions(
    captioner: Path, benchmark: Benchmark, params: EvaluationParams, run: RunParams, max_tokens: int
) -> list[dict[str, str]]:
    """Captions every evaluation image: rows of ``image_id`` and ``text``."""
    from tqdm import tqdm

    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.captioners.known_captioners import load_captioner

    device = resolve_device(run.device)
    model = load_captioner(captioner, device=device)
    starts = range(0, len(benchmark.image), run.image_batch_size)
    texts: list[str] = []
    # Whatever the run trains in: beams that are nearly equal would be decided by rounding.
    with fast_arithmetic(device, precision="float32"):
        for start in tqdm(starts, desc="Captioning", disable=None):
            # [B, D]: the captioner reads embeddings and never an image, so it cannot take the wrong route.
            part = benchmark.image[start : start + run.image_batch_size].to(device)
            texts += model.caption(part, beam_size=params.beam_size, max_tokens=max_tokens, origin=benchmark.origin)
    return [{"image_id": key, "text": text} for key, text in zip(benchmark.image_ids, texts, strict=True)]


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
    # From the benchmark and not from the corpus: the references of exactly the images that were captioned.
    references: dict[str, list[str]] = {image_id: [] for image_id in benchmark.image_ids}
    for caption, index in zip(benchmark.captions, benchmark.text_image_index.tolist(), strict=True):
        references[benchmark.image_ids[index]].append(caption)
    # Facts of a caption are known only where a grammar made it; SPICE needs Java and a parser for the same.
    added = {"scene_tuples": _scene_tuples(predictions, references, corpus)} if params.scene_tuples else {}
    return score_texts(predictions, references, corpus, params, feature_store=feature_store, added=added)


def collect_items(*items: pd.DataFrame) -> pd.DataFrame:
    """Returns all scores that are means over images, image by image, for paired comparisons of runs."""
    return pd.concat(items, ignore_index=True)


def collect_scores(
    captioning: dict[str, Any],
    retrieval: dict[str, Any],
    class_scores: dict[str, dict[str, Any]],
    gap: dict[str, Any],
    corpus: Corpus,
    generated_images: ShardImages,
    adapter: StoredStudent,
    evaluation: EvaluationParams,
    run: RunParams,
) -> dict[str, Any]:
    """Gathers a run's results with what they were measured on."""
    # Whoever compares two files of scores sees from the protocol whether they can be compared.
    return {
        "captioning": captioning,
        "retrieval": retrieval,
        **class_scores,  # classification, linear_probe and fine_tuning
        "gap": gap,
        "protocol": {
            "corpus": corpus.name,
            "split": evaluation.split,
            "image_count": retrieval["image_count"],
            "retrieval_protocol": evaluation.retrieval_protocol,
            "caption_tokenizer": evaluation.caption_tokenizer,
            "encoder": run.encoder,
            "real_path": adapter.spec.real_path,
            "seed": run.seed,
            "generator": generated_images.description.settings["generator"],
            # Both, for a student of an earlier version does not say which set it was aligned on.
            "generated_set": generated_images.fingerprint,
            "aligned_on": adapter.spec.generated_set,
            "generated_image_count": generated_images.description.image_count,
        },
    }


def _scene_tuples(
    predictions: list[dict[str, str]], references: Mapping[str, Sequence[str]], corpus: Corpus
) -> np.ndarray:
    from gmail_kedro.metrics.scene_tuples import tuple_f1

    if corpus.grammar is None:
        raise ValueError(
            f"evaluation.scene_tuples needs a corpus whose captions come from a grammar. {corpus.name!r} has none. "
            "Set it to false."
        )
    # By image, for a prediction is held against all references of its image at once.
    return tuple_f1({row["image_id"]: row["text"] for row in predictions}, references, corpus.grammar.facts)
