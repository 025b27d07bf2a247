"""Nodes of the diagnostics pipeline: the gap on held-out pairs before and after alignment, with a codec control."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus, GeneratedImages
from gmail_kedro.params import DiagnosticsParams, RunParams
from gmail_kedro.zoo.adapters import StoredAdapter


@dataclass(frozen=True)
class GapViews:
    """The pictures of N pairs as the teacher and the student see them.

    Attributes:
        real: Teacher on the photographs, float32 [N, D].
        before: Teacher on the generated pictures, float32 [N, D].
        after: Student on the generated pictures, float32 [N, D].
    """

    real: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


@dataclass(frozen=True)
class GapEmbeddings:
    """Held-out pairs, one generated picture for each photograph.

    Attributes:
        image_ids: Photograph of each pair, N of them.
        stored: The pictures as they are stored.
        codec_matched: The same pictures after one resize and JPEG for both sides.
        text: Teacher on the captions of the pairs, float32 [N, D].
    """

    image_ids: list[str]
    stored: GapViews
    codec_matched: GapViews
    text: torch.Tensor


def encode_gap(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredAdapter,
    feature_store: Path,
    params: DiagnosticsParams,
    run: RunParams,
) -> GapEmbeddings:
    """Encodes the held-out pairs, as stored and codec-matched, before and after alignment."""
    from gmail_kedro.engine.inference import encode_images, encode_texts
    from gmail_kedro.records.codec import CodecMatchedImages
    from gmail_kedro.zoo.adapters import load_student
    from gmail_kedro.zoo.encoders import build_encoder

    device, settings = _inference(feature_store, run)
    held_out = pairs[pairs["split"] == "val"].drop_duplicates("image_id").head(params.pair_count)
    real_keys, generated_keys = list(held_out["real_key"]), list(held_out["generated_key"])
    codec = {"size": params.codec_size, "quality": params.codec_quality}
    sources = {
        "stored": (corpus.images, generated_images),
        "codec_matched": (CodecMatchedImages(corpus.images, **codec), CodecMatchedImages(generated_images, **codec)),
    }
    teacher = build_encoder(run.encoder, run.encoder_path, device=device)
    text = encode_texts(teacher, list(held_out["caption"]), **settings)
    seen: dict[str, dict[str, torch.Tensor]] = {}
    for name, (photographs, pictures) in sources.items():
        real = encode_images(teacher, photographs, real_keys, **settings)
        seen[name] = {"real": real, "before": encode_images(teacher, pictures, generated_keys, **settings)}
    student = load_student(teacher, adapter)  # changes the teacher's tower in place, so it comes last
    for name, (_, pictures) in sources.items():
        seen[name]["after"] = encode_images(student, pictures, generated_keys, **settings)
    views = {name: GapViews(**embeddings) for name, embeddings in seen.items()}
    return GapEmbeddings(image_ids=list(held_out["image_id"]), text=text, **views)


def score_gap(gap_embeddings: GapEmbeddings, params: DiagnosticsParams) -> dict[str, Any]:
    """Measures the gap between generated and real embeddings before and after alignment, and without the codec's."""
    from gmail_kedro.method.frame import decompose_gap, fit_frame, relative_drift
    from gmail_kedro.method.gap import gap_report, short_gap_report, usable_rank
    from gmail_kedro.method.neighbours import source_preservation

    stored, groups = gap_embeddings.stored, gap_embeddings.image_ids
    frame = fit_frame(stored.before, stored.real, rank=usable_rank(stored.real, params.frame_rank))
    report_shortly = partial(short_gap_report, groups=groups, seed=params.seed)
    report_all = partial(
        gap_report,
        groups=groups,
        text=gap_embeddings.text,
        frame=frame,
        neighbour_count=params.neighbour_count,
        seed=params.seed,
    )
    result = _score_views(stored, report_all, groups, params)
    biases = [decompose_gap(frame, generated, stored.real).pob for generated in (stored.after, stored.before)]
    drift = relative_drift(*biases)
    result["scores"] |= {"pob_drift": drift} if math.isfinite(drift) else {}
    result["scores"] |= source_preservation(stored.before, stored.after, neighbour_count=params.neighbour_count)
    codec = {"codec_size": params.codec_size, "codec_quality": params.codec_quality}
    matched = _score_views(gap_embeddings.codec_matched, report_shortly, groups, params)
    return result | {"codec_matched": matched | codec, "pair_count": len(groups)}


def draw_tsne_figure(gap_embeddings: GapEmbeddings, gap_scores: dict[str, Any], params: DiagnosticsParams) -> Any:
    """Returns Fig. 3 for the held-out pairs, a matplotlib ``Figure``."""
    from gmail_kedro.reporting.figures import draw_tsne, tsne_plane

    views, count = gap_embeddings.stored, params.tsne_count
    real = views.real[:count].numpy()
    before, after = [
        tsne_plane(np.concatenate([real, generated[:count].numpy()]), seed=params.seed)
        for generated in (views.before, views.after)
    ]
    gap = gap_scores["scores"]
    notes = [
        f"probe AUC {gap[f'probe_auc_{when}']:.2f}, paired cosine {gap[f'paired_cosine_{when}']:.2f}, "
        f"k-NN mixing {gap[f'knn_mixing_{when}']:.2f}"
        for when in ("before", "after")
    ]
    return draw_tsne(before, after, notes)


def draw_spectra_figure(gap_embeddings: GapEmbeddings) -> Any:
    """Returns the eigenvalues of the three clouds over their rank, a matplotlib ``Figure``."""
    from gmail_kedro.method.spectrum import eigenvalues, power_law_exponent
    from gmail_kedro.reporting.figures import draw_spectra

    spectra = {name: eigenvalues(cloud) for name, cloud in vars(gap_embeddings.stored).items()}
    exponents = {name: power_law_exponent(spectrum) for name, spectrum in spectra.items()}
    return draw_spectra({name: spectrum.numpy() for name, spectrum in spectra.items()}, exponents)


def _score_views(
    views: GapViews,
    report: Callable[[torch.Tensor, torch.Tensor], dict[str, float]],
    groups: list[str],
    params: DiagnosticsParams,
) -> dict[str, dict[str, Any]]:
    """Returns scores and intervals, each by measure and time (``_before`` and ``_after``)."""
    from gmail_kedro.method.gap import paired_cosine
    from gmail_kedro.method.probe import probe_interval
    from gmail_kedro.metrics.statistics import bootstrap_interval

    count, seed, folds = params.bootstrap_count, params.seed, min(5, len(groups))
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    for when, generated in (("before", views.before), ("after", views.after)):
        scores |= {f"{name}_{when}": value for name, value in report(generated, views.real).items()}
        cosines = paired_cosine(generated, views.real).numpy()
        intervals[f"paired_cosine_{when}"] = asdict(bootstrap_interval(cosines, count=count, seed=seed))
        low, high = probe_interval(generated, views.real, groups, count=count, seed=seed, folds=folds)
        intervals[f"probe_auc_{when}"] = {"mean": scores[f"probe_auc_{when}"], "low": low, "high": high}
    return {"scores": scores, "intervals": intervals}


def _inference(feature_store: Path, run: RunParams) -> tuple[torch.device, dict[str, Any]]:
    """Returns the device and the keyword arguments that every encoding call shares."""
    from gmail_kedro.engine.features import FeatureStore
    from gmail_kedro.hardware import resolve_device

    device = resolve_device(run.device)
    return device, {
        "store": FeatureStore(feature_store),
        "batch_size": run.image_batch_size,
        "device": device,
        "precision": run.precision,
    }
