"""The nodes of the diagnostics pipeline, on the mini CLIP and on clouds whose gap is known."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gmail_kedro.interfaces import Corpus
from gmail_kedro.method.frame import decompose_gap, fit_frame
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.student import student
from gmail_kedro.params.diagnostics import DiagnosticsParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.diagnostics.nodes import (
    GapEmbeddings,
    GapViews,
    draw_spectra_figure,
    draw_tsne_figure,
    encode_gap,
    list_gap_items,
    score_gap,
)

RUN = RunParams(
    seed=0,
    device="cpu",
    precision="float32",
    encoder="mini_clip",
    encoder_path=None,
    image_batch_size=64,
    engine="local",
)
SETTINGS = {
    "pair_count": None, "neighbour_count": 5, "frame_rank": 4, "codec_size": 32, "codec_quality": 30,
    "bootstrap_count": 100, "tsne_count": 12, "seed": 0,
}  # fmt: skip


class Scenes:
    """Colourful images, the same ones in every codec.

    Args:
        kind: Pillow's name of the format.
        settings: How it is saved, such as ``quality``.
    """

    def __init__(self, kind: str, **settings: int) -> None:
        self._kind, self._settings = kind, settings

    def read(self, key: str) -> bytes:
        rng = np.random.default_rng(int(key.rpartition("_")[2]))
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, self._kind, **self._settings)
        return buffer.getvalue()


def make_pairs(count: int) -> pd.DataFrame:
    numbers = range(count)
    return pd.DataFrame(
        {
            "image_id": [f"photo_{n}" for n in numbers],
            "caption": [f"a number {n}" for n in numbers],
            "real_key": [f"photo_{n}" for n in numbers],
            "generated_key": [f"picture_{n}" for n in numbers],
            "split": ["val" if n % 5 else "train" for n in numbers],
        }
    )


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Encodes pairs that differ in nothing but their codec; the student is the teacher."""
    monkeypatch.setattr(student, "take_route", lambda encoder, stored, route: encoder)

    def encode(**changes: object) -> GapEmbeddings:
        corpus = Corpus("tiny", pd.DataFrame(), images=Scenes("PNG"), labels={})
        params = DiagnosticsParams(**{**SETTINGS, **changes})
        compressed, unmapped = Scenes("JPEG", quality=15), FeatureMap("none")
        return encode_gap(make_pairs(50), corpus, compressed, None, unmapped, tmp_path, params, RUN)

    return encode


def test_a_codec_gap_shrinks_when_the_codecs_are_matched(encoded):
    embeddings = encoded()
    scores = score_gap(embeddings, DiagnosticsParams(**SETTINGS))
    stored, matched = scores["scores"], scores["codec_matched"]["scores"]
    assert stored["paired_cosine_before"] < matched["paired_cosine_before"]
    assert matched["centroid_distance_before"] < 0.7 * stored["centroid_distance_before"]
    assert matched["probe_auc_before"] < stored["probe_auc_before"]
    assert stored["probe_auc_before"] > 0.8
    assert scores["pair_count"] == 40 and embeddings.image_ids[0] == "photo_1"


def test_the_number_of_pairs_can_be_limited(encoded):
    assert len(encoded(pair_count=7).image_ids) == 7
    assert len(encoded(pair_count=7).text) == 7


def clouds(shift_before: float, shift_after: float, rows: int = 120) -> GapEmbeddings:
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(rows, 12, generator=rng)
    generated = real + 0.2 * torch.randn(rows, 12, generator=rng)
    direction = torch.zeros(12)
    direction[0] = 1
    views = GapViews(real, generated + shift_before * direction, real, generated + shift_after * direction)
    same = GapViews(real, real, real, real)
    return GapEmbeddings([f"photo_{row}" for row in range(rows)], views, same, text=real)


def test_a_gap_that_closes_is_seen_on_every_side():
    result = score_gap(clouds(3.0, 0.0), DiagnosticsParams(**SETTINGS))
    scores = result["scores"]
    for name in ("probe_auc", "centroid_distance", "frechet_distance", "pmb_norm"):
        assert scores[f"{name}_after"] < 0.7 * scores[f"{name}_before"], name
    for name in ("paired_cosine", "knn_mixing", "generated_text_cosine"):
        assert scores[f"{name}_after"] > scores[f"{name}_before"], name
    assert scores["probe_auc_before"] > 0.95 and scores["knn_mixing_after"] > 0.3
    assert scores["real_text_cosine_before"] == pytest.approx(1.0)
    assert result["codec_matched"]["scores"]["paired_cosine_after"] == pytest.approx(1.0)
    assert {"paired_cosine_before", "probe_auc_after"} <= result["intervals"].keys()
    narrow = result["intervals"]["probe_auc_after"]
    assert narrow["low"] <= scores["probe_auc_after"] == narrow["mean"] <= narrow["high"]


def test_a_student_that_is_the_teacher_changes_nothing():
    scores = score_gap(clouds(1.0, 1.0), DiagnosticsParams(**SETTINGS))["scores"]
    before = {name: value for name, value in scores.items() if name.endswith("_before")}
    assert len(before) > 25
    assert all(scores[name.replace("_before", "_after")] == value for name, value in before.items())
    assert scores["pob_drift"] == 0.0
    for name in ("preserved_cosine", "preserved_similarity", "preserved_neighbours"):
        assert scores[name] == pytest.approx(1.0)


def test_the_frame_is_that_of_before_alignment():
    views = clouds(3.0, 0.0).stored
    away = torch.zeros(12)
    away[11] = 3  # a frame of after alignment would hold this direction
    moved = GapViews(views.real, views.before, views.real, views.after + away)
    embeddings = GapEmbeddings(clouds(0, 0).image_ids, moved, moved, text=views.real)
    scores = score_gap(embeddings, DiagnosticsParams(**SETTINGS | {"frame_rank": 2}))["scores"]
    frame = fit_frame(moved.before, moved.real, rank=2)
    expected = decompose_gap(frame, moved.after, moved.real).scores()["pmb_norm"]
    assert scores["pmb_norm_after"] == pytest.approx(expected)
    assert scores["pob_drift"] > 0.2


def test_paired_cosines_are_listed_one_by_one():
    embeddings = clouds(2.0, 0.0)
    scores = score_gap(embeddings, DiagnosticsParams(**SETTINGS))["scores"]
    items = list_gap_items(embeddings)
    means = items.groupby("measure")["value"].mean()
    assert set(means.index) == {"paired_cosine_before", "paired_cosine_after"}
    for measure in means.index:
        assert means[measure] == pytest.approx(scores[measure])
        assert items.loc[items["measure"] == measure, "image_id"].tolist() == embeddings.image_ids


def test_figures_are_drawn_with_their_numbers():
    embeddings, params = clouds(2.0, 0.0), DiagnosticsParams(**SETTINGS)
    scores = score_gap(embeddings, params)
    panels = draw_tsne_figure(embeddings, scores, params).axes
    assert f"probe AUC {scores['scores']['probe_auc_after']:.2f}" in panels[1].get_xlabel()
    (axis,) = draw_spectra_figure(embeddings).axes
    assert [line.get_label().split(" (")[0] for line in axis.get_lines()] == [
        "real", "generated, before alignment", "generated, after alignment",
    ]  # fmt: skip
    real = axis.get_lines()[0].get_ydata()
    assert len(real) == 12 and sum(real) == pytest.approx(scores["scores"]["trace_real_before"])


def test_a_real_side_that_is_tuned_too_counts_after_alignment():
    views = clouds(3.0, 3.0).stored
    both = GapViews(views.real, views.before, views.after, views.after)  # the real route follows the generated one
    embeddings = GapEmbeddings(clouds(0, 0).image_ids, both, both, text=None)
    scores = score_gap(embeddings, DiagnosticsParams(**SETTINGS))["scores"]
    assert scores["paired_cosine_before"] < scores["paired_cosine_after"] == pytest.approx(1.0)
    assert scores["trace_real_before"] != scores["trace_real_after"]
    assert "real_text_cosine_before" not in scores
    labels = [line.get_label() for line in draw_spectra_figure(embeddings).axes[0].get_lines()]
    assert len(labels) == 4 and labels[1].startswith("real, after alignment")


def test_one_held_out_real_image_has_no_gap_and_its_figures_say_so():
    params, whole = DiagnosticsParams(**SETTINGS), clouds(0, 0)
    first = GapViews(**{name: rows[:1] for name, rows in vars(whole.stored).items()})
    embeddings = GapEmbeddings(whole.image_ids[:1], first, first, text=whole.text[:1])
    result = score_gap(embeddings, params)
    reason = "a gap is measured on two held-out real images or more, here are 1"
    assert result["scores"] == {} and result["unavailable"] == {"all": reason} and result["pair_count"] == 1
    for figure in (draw_tsne_figure(embeddings, result, params), draw_spectra_figure(embeddings)):
        figure.savefig(io.BytesIO())
    assert [axis.get_xlabel() for axis in draw_tsne_figure(embeddings, result, params).axes] == [reason, reason]
