"""Nodes of the evaluation pipeline: real images on the real route."""

from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.evaluation.benchmark import Benchmark
from gmail_kedro.generated_sets.shard_images import ShardImages
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
    with fast_arithmetic(device, precision="float32"):
        for start in tqdm(starts, desc="Captioning", disable=None):
            part = benchmark.image[start : start + run.image_batch_size].to(device)
            texts += model.caption(part, beam_size=params.beam_size, max_tokens=max_tokens, origin=benchmark.origin)
    return [{"image_id": key, "text": text} for key, text in zip(benchmark.image_ids, texts, strict=True)]


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
    return {
        "captioning": captioning,
        "retrieval": retrieval,
        **class_scores,
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
            "generated_set": generated_images.fingerprint,
            "aligned_on": adapter.spec.generated_set,
            "generated_image_count": generated_images.description.image_count,
        },
    }
