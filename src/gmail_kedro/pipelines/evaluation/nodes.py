"""Nodes of the evaluation pipeline: real images on the real route."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus, FeatureOrigin
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.params import EvaluationParams, RunParams
from gmail_kedro.params.protocols import PROTOCOLS, check_protocol
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
        origin: What made the image embeddings.
    """

    image_ids: list[str]
    image: torch.Tensor
    captions: list[str]
    text: torch.Tensor | None
    tuned_text: torch.Tensor | None
    text_image_index: torch.Tensor
    truncated_count: int
    origin: FeatureOrigin


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
        ValueError: If the split has no photographs, or not those of the retrieval protocol.
        FileNotFoundError: If a photograph is missing; evaluation stops rather than score what is left.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding
    from gmail_kedro.zoo.student import describe_origin
    from gmail_kedro.zoo.text_tower import put_text_tower

    encoding = run_encoding(feature_store, run)
    encoder = real_route(adapter, run, encoding.device)
    rows = evaluation_rows(corpus, params)
    image_ids, captions = list(dict.fromkeys(rows["image_id"])), list(rows["caption"])
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    image = encode_images(encoder, corpus.images, image_ids, encoding)
    reads = encoder.text_tower is not None
    text = encode_texts(encoder, captions, encoding) if reads else None
    truncated_count = encoder.count_truncated(captions) if reads else 0
    origin = describe_origin(
        encoder, adapter, sides=["real"], map_kind=feature_map.kind, map_tensors=feature_map.tensors()
    )
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
            texts += model.caption(part, beam_size=params.beam_size, max_tokens=max_tokens, origin=benchmark.origin)
    return [{"image_id": key, "text": text} for key, text in zip(benchmark.image_ids, texts, strict=True)]


def collect_items(
    captioning_items: pd.DataFrame, retrieval_items: pd.DataFrame, classification_items: pd.DataFrame
) -> pd.DataFrame:
    """Returns all scores that are means over images, image by image, for paired comparisons of runs."""
    return pd.concat([captioning_items, retrieval_items, classification_items], ignore_index=True)


def collect_scores(
    captioning: dict[str, Any],
    retrieval: dict[str, Any],
    classification: dict[str, Any],
    linear_probe: dict[str, Any],
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
        "linear_probe": linear_probe,
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
            "generated_image_count": generated_images.description.image_count,
        },
    }


def evaluation_rows(corpus: Corpus, params: EvaluationParams) -> pd.DataFrame:
    """Returns the captions that are scored: of the split, and as many of each photograph as the protocol takes.

    Raises:
        ValueError: If the split has no photographs, or not those of the retrieval protocol.
    """
    rows = corpus.captions[corpus.captions["split"] == params.split]
    if rows.empty:
        raise ValueError(
            f"The corpus {corpus.name!r} has no photographs in the split {params.split!r}. Its splits: "
            f"{sorted(corpus.captions['split'].unique())}. Set evaluation.split."
        )
    if params.retrieval_protocol is not None:
        taken = rows.groupby("image_id", sort=False).head(PROTOCOLS[params.retrieval_protocol].captions_per_image)
        check_protocol(params.retrieval_protocol, image_count=taken["image_id"].nunique(), caption_count=len(taken))
        return taken
    if params.image_count is None:
        return rows
    kept = set(list(dict.fromkeys(rows["image_id"]))[: params.image_count])
    return rows[rows["image_id"].isin(kept)]


def real_route(adapter: StoredStudent, run: RunParams, device: torch.device) -> TowerEncoder:
    """Returns what real images go through."""
    from gmail_kedro.zoo.encoders import build_encoder
    from gmail_kedro.zoo.student import take_route

    return take_route(build_encoder(run.encoder, run.encoder_path, device=device), adapter, "real")
