"""Nodes of the diagnostics pipeline: the gap on held-out pairs before and after alignment, with a codec control."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gmail_kedro.engine.inference import Encoding
from gmail_kedro.evaluation.benchmark import item_rows
from gmail_kedro.interfaces import Corpus, GeneratedImages, ImageSource
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.diagnostics import DiagnosticsParams
from gmail_kedro.params.run import RunParams


@dataclass(frozen=True)
class GapViews:
    """The images of N pairs before and after alignment.

    Attributes:
        real: Teacher on the real images, float32 [N, D].
        before: Teacher on the generated images, float32 [N, D].
        real_after: The real route and the training-free map on the real images, float32 [N, D].
        after: The generated route and the map on the generated images, float32 [N, D].
    """

    real: torch.Tensor
    before: torch.Tensor
    real_after: torch.Tensor
    after: torch.Tensor


@dataclass(frozen=True)
class GapEmbeddings:
    """Held-out pairs, one generated image for each real one.

    Attributes:
        image_ids: Real image of each pair, N of them.
        stored: The images as they are stored.
        codec_matched: The same images after one resize and JPEG for both sides.
        text: Teacher on the captions of the pairs, float32 [N, D], or None where it reads no texts.
    """

    image_ids: list[str]
    stored: GapViews
    codec_matched: GapViews
    text: torch.Tensor | None


def encode_gap(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    feature_store: Path,
    params: DiagnosticsParams,
    run: RunParams,
) -> GapEmbeddings:
    """Encodes the held-out pairs, as stored and codec-matched, before and after alignment."""
    from gmail_kedro.engine.inference import encode_texts, run_encoding
    from gmail_kedro.images.matched_codec import CodecMatchedImages
    from gmail_kedro.models.encoders.known_encoders import build_teacher

    encoding = run_encoding(feature_store, run)
    # One pair an image: several generated images of one real one would be neighbours for that reason alone.
    held_out = pairs[pairs["split"] == "val"].drop_duplicates("image_id").head(params.pair_count)
    teacher = build_teacher(run, encoding.device)
    text = None if teacher.text_tower is None else encode_texts(teacher, list(held_out["caption"]), encoding)
    # Generated images come as they were saved, real ones as JPEGs of their cameras: part of a gap may be the codec's.
    codec = {"size": params.codec_size, "quality": params.codec_quality}
    encode = partial(_encode_views, held_out, adapter=adapter, feature_map=feature_map, encoding=encoding, run=run)
    return GapEmbeddings(
        image_ids=list(held_out["image_id"]),
        stored=encode(corpus.images, generated_images),
        codec_matched=encode(CodecMatchedImages(corpus.images, **codec), CodecMatchedImages(generated_images, **codec)),
        text=text,
    )


def _encode_views(
    held_out: pd.DataFrame,
    real: ImageSource,
    generated: ImageSource,
    *,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    encoding: Encoding,
    run: RunParams,
) -> GapViews:
    """Encodes both sides of the pairs by the teacher, and each by its own route."""
    from gmail_kedro.engine.inference import encode_images
    from gmail_kedro.models.encoders.known_encoders import build_teacher
    from gmail_kedro.models.student.student import take_route

    sides = {
        "real": (real, list(held_out["real_key"])),
        "generated": (generated, list(held_out["generated_key"])),
    }
    found = {}
    for name, (source, keys) in sides.items():
        encoder = build_teacher(run, encoding.device)
        # The teacher first: take_route turns this very encoder into the route.
        before = encode_images(encoder, source, keys, encoding)  # [N, D]
        after_tuning = encode_images(take_route(encoder, adapter, name), source, keys, encoding)  # [N, D]
        found[name] = before, after_tuning
    (before_real, real_after), (before, after) = found["real"], found["generated"]
    if feature_map.kind != "none":
        real_after, after = feature_map.target(real_after), feature_map.source(after)
    return GapViews(real=before_real, before=before, real_after=real_after, after=after)


def score_gap(gap_embeddings: GapEmbeddings, params: DiagnosticsParams) -> dict[str, Any]:
    """Measures the gap between generated and real embeddings before and after alignment, and without the codec's.

    One real image has no gap: nothing tells its two sides apart from those of others, and that is the reason given.
    """
    from gmail_kedro.method.frame import decompose_gap, fit_frame, relative_drift
    from gmail_kedro.method.gap import gap_report, short_gap_report, usable_rank
    from gmail_kedro.method.neighbours import source_preservation

    stored, groups = gap_embeddings.stored, gap_embeddings.image_ids
    codec = {"codec_size": params.codec_size, "codec_quality": params.codec_quality}
    if len(set(groups)) < 2:
        reason = f"a gap is measured on two held-out real images or more, here are {len(set(groups))}"
        nothing: dict[str, Any] = {"scores": {}, "intervals": {}, "unavailable": {"all": reason}}
        return nothing | {"codec_matched": nothing | codec, "pair_count": len(groups)}
    # One frame for before and after, or the shares of the gap along its axes could not be compared.
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
    # All measures on the stored images; on the codec-matched ones those that say whether a gap is there.
    result = _score_views(stored, report_all, groups, params)
    clouds = (stored.after, stored.real_after), (stored.before, stored.real)
    biases = [decompose_gap(frame, generated, real).pob for generated, real in clouds]
    drift = relative_drift(*biases)
    # Not finite where the bias before is zero: nothing can drift from nothing, and JSON has no such number.
    result["scores"] |= {"pob_drift": drift} if math.isfinite(drift) else {}
    result["scores"] |= source_preservation(stored.before, stored.after, neighbour_count=params.neighbour_count)
    matched = _score_views(gap_embeddings.codec_matched, report_shortly, groups, params)
    return result | {"codec_matched": matched | codec, "pair_count": len(groups)}


def list_gap_items(gap_embeddings: GapEmbeddings) -> pd.DataFrame:
    """Returns the paired cosines one by one, for paired comparisons of runs: ``image_id``, ``measure``, ``value``."""
    from gmail_kedro.method.gap import paired_cosine

    views = gap_embeddings.stored
    sides = {"before": (views.before, views.real), "after": (views.after, views.real_after)}
    return pd.concat(
        [
            item_rows(gap_embeddings.image_ids, f"paired_cosine_{when}", paired_cosine(*side).numpy())
            for when, side in sides.items()
        ],
        ignore_index=True,
    )


def draw_tsne_figure(gap_embeddings: GapEmbeddings, gap_scores: dict[str, Any], params: DiagnosticsParams) -> Any:
    """Returns Fig. 3 for the held-out pairs, a matplotlib ``Figure``."""
    from gmail_kedro.reporting.run_figures import draw_tsne, tsne_plane

    views, count = gap_embeddings.stored, params.tsne_count
    before, after = [
        # Both clouds in one plane; the planes of before and after have nothing in common but their points.
        tsne_plane(torch.cat([real[:count], generated[:count]]).numpy(), seed=params.seed)
        for real, generated in ((views.real, views.before), (views.real_after, views.after))
    ]
    gap = gap_scores["scores"]
    notes = [
        f"probe AUC {gap[f'probe_auc_{when}']:.2f}, paired cosine {gap[f'paired_cosine_{when}']:.2f}, "
        f"k-NN mixing {gap[f'knn_mixing_{when}']:.2f}"
        if gap
        else gap_scores["unavailable"]["all"]
        for when in ("before", "after")
    ]
    return draw_tsne(before, after, notes)


def draw_spectra_figure(gap_embeddings: GapEmbeddings) -> Any:
    """Returns the eigenvalues of the clouds over their rank, a matplotlib ``Figure``."""
    from gmail_kedro.method.spectrum import eigenvalues, power_law_exponent
    from gmail_kedro.reporting.run_figures import draw_spectra

    clouds = dict(vars(gap_embeddings.stored))
    if torch.equal(clouds["real"], clouds["real_after"]):  # a frozen real side is drawn once
        del clouds["real_after"]
    spectra = {name: eigenvalues(cloud) for name, cloud in clouds.items()}
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

    count, seed, folds = params.bootstrap_count, params.seed, min(5, len(groups))  # a fold holds out whole images
    scores: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    times = {"before": (views.before, views.real), "after": (views.after, views.real_after)}
    for when, (generated, real) in times.items():
        scores |= {f"{name}_{when}": value for name, value in report(generated, real).items()}
        cosines = paired_cosine(generated, real).numpy()  # [N]
        intervals[f"paired_cosine_{when}"] = asdict(bootstrap_interval(cosines, count=count, seed=seed))
        low, high = probe_interval(generated, real, groups, count=count, seed=seed, folds=folds)
        intervals[f"probe_auc_{when}"] = {"mean": scores[f"probe_auc_{when}"], "low": low, "high": high}
    return {"scores": scores, "intervals": intervals}
