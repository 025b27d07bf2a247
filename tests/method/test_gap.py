"""Gap diagnostics on clouds whose gap is known."""

import math

import numpy as np
import pytest
import torch

from gmail_kedro.method.gap import (
    centred_cosine,
    centroid_distance,
    gap_report,
    paired_cosine,
    random_cosine,
    short_gap_report,
    trace,
)
from gmail_kedro.method.probe import _wins_by_group, probe_auc, probe_interval

from ..precision import assert_equal_but_rounding


def cloud(seed, *, image_count=60, captions=3, width=12, shift=0.0, noise=0.3):
    """Returns generated [N, D], real [N, D] and groups [N]; each real image has several generated images."""
    rng = torch.Generator().manual_seed(seed)
    real_images = torch.randn(image_count, width, generator=rng)
    real = real_images.repeat_interleave(captions, dim=0)
    generated = real + noise * torch.randn(real.shape, generator=rng)
    generated[:, 0] += shift
    return generated, real, np.repeat([f"photo_{i}" for i in range(image_count)], captions)


def test_paired_cosine_equals_a_loop():
    generated, real, _ = cloud(0)
    expected = [float(g @ r / g.norm() / r.norm()) for g, r in zip(generated, real, strict=True)]
    assert_equal_but_rounding(paired_cosine(generated * 7, real), torch.tensor(expected))
    assert paired_cosine(generated, real).dtype == torch.float32


def test_centroid_distance_and_trace_equal_loops():
    generated, real, _ = cloud(1, shift=1.0)
    sides = [[row.double() / row.double().norm() for row in side] for side in (generated, real)]
    means = [sum(side) / len(side) for side in sides]
    assert centroid_distance(generated, real) == pytest.approx(float((means[0] - means[1]).norm()))
    expected = sum(float((row - means[0]).square().sum()) for row in sides[0]) / len(sides[0])
    assert trace(generated) == pytest.approx(expected)


def test_closed_forms():
    line = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert trace(line) == pytest.approx(1.0)  # mean 0, so 1 - ||mu||^2 = 1
    assert trace(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-12)
    assert trace(torch.eye(2)) == pytest.approx(0.5)  # mean (1/2, 1/2)
    assert centroid_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])) == pytest.approx(math.sqrt(2))
    assert centroid_distance(line, line) == 0.0


def test_trace_is_one_minus_squared_mean():
    generated, _, _ = cloud(2, shift=2.0)
    mean = torch.nn.functional.normalize(generated.double(), dim=1).mean(dim=0)
    assert trace(generated) == pytest.approx(1 - float(mean @ mean))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sizes", [[1, 1], [3, 3], [5, 2, 2, 1], [1, 4, 3, 2, 2], [5] * 8])
def test_random_cosine_never_pairs_a_real_image_with_itself(seed, sizes):
    # One-hot real images: a cosine of 1 would be the real image itself.
    numbers = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = torch.eye(len(sizes))[torch.as_tensor(numbers)]
    cosines = random_cosine(rows, rows, numbers, seed=seed)
    assert cosines.shape == (sum(sizes),)
    assert (cosines == 0).all()


def test_random_cosine_uses_every_real_image_once():
    generated, real = torch.ones(6, 2), torch.tensor([[1.0, i] for i in range(6)])
    cosines = random_cosine(generated, real, list("abcdef"), seed=0)
    assert sorted(cosines.tolist()) == pytest.approx(sorted(paired_cosine(generated, real).tolist()))


def test_random_cosine_estimates_the_mean_over_all_strangers():
    generated, real, groups = cloud(3, shift=1.0)
    unit_generated, unit_real = (torch.nn.functional.normalize(side, dim=1) for side in (generated, real))
    strangers = torch.as_tensor(groups[:, None] != groups[None, :])
    expected = (unit_generated @ unit_real.T)[strangers].mean()
    draws = [random_cosine(generated, real, groups, seed=seed).mean() for seed in range(40)]
    assert float(np.mean(draws)) == pytest.approx(float(expected), abs=0.01)


def test_a_shift_is_seen_by_the_probe_and_not_by_its_null():
    generated, real, groups = cloud(4, shift=2.5)
    result = probe_auc(generated, real, groups, seed=0)
    assert result.auc > 0.9
    assert 0.35 < result.null_auc < 0.65


def test_equal_distributions_leave_the_probe_at_chance():
    rng = torch.Generator().manual_seed(0)
    generated, real = torch.randn(300, 6, generator=rng), torch.randn(300, 6, generator=rng)
    result = probe_auc(generated, real, np.arange(300), seed=0)
    assert 0.42 < result.auc < 0.58
    assert 0.42 < result.null_auc < 0.58


def test_the_probe_cannot_learn_real_images_by_heart():
    # Modality depends on the real image alone: a probe that saw a real image's other pairs would know.
    rng = torch.Generator().manual_seed(1)
    side = torch.randint(0, 2, (20, 1), generator=rng).repeat_interleave(10, dim=0).float() * 2 - 1
    real_images = torch.randn(20, 64, generator=rng).repeat_interleave(10, dim=0)
    mark = torch.randn(20, 64, generator=rng).repeat_interleave(10, dim=0) * side
    groups = np.repeat(np.arange(20), 10)
    grouped = probe_auc(real_images + mark, real_images - mark, groups, seed=0)
    leaked = probe_auc(real_images + mark, real_images - mark, np.arange(200), seed=0)
    assert grouped.auc < 0.75
    assert leaked.auc > 0.95


def naive_fold_auc(generated, real):
    """The share of generated rows above real rows, ties half, over all pairs of rows."""
    wins = [float(g > r) + 0.5 * float(g == r) for g in generated for r in real]
    return sum(wins) / len(wins)


def test_wins_by_group_give_the_auc_of_any_resample():
    rng = np.random.default_rng(0)
    generated, real, numbers = rng.integers(0, 6, 9), rng.integers(0, 6, 9), np.array([0, 0, 1, 1, 1, 2, 3, 3, 3])
    wins, sizes = _wins_by_group(generated, real, numbers), np.bincount(numbers)
    for drawn in ([0, 1, 2, 3], [0, 0, 3, 3], [2, 2, 2, 1]):
        weights = np.bincount(drawn, minlength=4)
        rows = np.concatenate([np.flatnonzero(numbers == real_image) for real_image in drawn])
        expected = naive_fold_auc(generated[rows], real[rows])
        assert weights @ wins @ weights / (weights @ sizes) ** 2 == pytest.approx(expected)


def test_the_interval_holds_the_auc_and_narrows_with_more_real_images():
    widths = []
    for image_count in (40, 400):
        generated, real, groups = cloud(11, image_count=image_count, shift=0.5)
        low, high = probe_interval(generated, real, groups, count=200, seed=0)
        assert 0 <= low <= probe_auc(generated, real, groups, seed=0).auc <= high <= 1
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]
    assert probe_interval(generated, real, groups, count=200, seed=0) == (low, high)


def test_the_seed_decides_and_the_pair_order_does_not_leak():
    generated, real, groups = cloud(5, shift=0.5)
    assert probe_auc(generated, real, groups, seed=3) == probe_auc(generated, real, groups, seed=3)
    assert torch.equal(
        random_cosine(generated, real, groups, seed=3), random_cosine(generated, real, list(groups), seed=3)
    )
    assert not torch.equal(
        random_cosine(generated, real, groups, seed=3), random_cosine(generated, real, groups, seed=4)
    )


def test_report_holds_all_measures():
    generated, real, groups = cloud(6, shift=2.0)
    report = gap_report(generated, real, groups, seed=0)
    assert list(report) == [
        "paired_cosine", "random_cosine", "probe_auc", "probe_null_auc",
        "centroid_distance", "trace_generated", "trace_real",
        "centred_cosine", "trace_ratio", "frechet_distance", "knn_mixing", "subspace_overlap",
        "effective_rank_generated", "effective_dimension_generated", "power_law_exponent_generated",
        "effective_rank_real", "effective_dimension_real", "power_law_exponent_real",
        "spectral_correlation", "residual_anisotropy", "residual_effective_dimension",
        "pmb_norm", "pob_norm", "principal_residual_trace", "principal_residual_condition",
        "orthogonal_residual_trace", "orthogonal_residual_condition", "pob_angle_degrees",
    ]  # fmt: skip
    short = short_gap_report(generated, real, groups, seed=0)
    assert short.items() <= report.items() and len(short) == 7
    assert all(isinstance(value, float) for value in report.values())
    assert report["paired_cosine"] > report["random_cosine"]
    assert report["trace_generated"] < report["trace_real"]  # the common shift takes variance away
    assert report["probe_auc"] == probe_auc(generated, real, groups, seed=0).auc


def test_captions_add_the_image_text_cosines():
    generated, real, groups = cloud(6)
    text = torch.randn(generated.shape, generator=torch.Generator().manual_seed(9))
    report = gap_report(generated, real, groups, text=text, seed=0)
    assert report["real_text_cosine"] == pytest.approx(float(paired_cosine(text, real).mean()))
    assert report["generated_text_cosine"] == pytest.approx(float(paired_cosine(text, generated).mean()))
    assert report.keys() - gap_report(generated, real, groups, seed=0).keys() == {
        "real_text_cosine", "generated_text_cosine",
    }  # fmt: skip


def test_equal_sides_have_no_gap():
    _, real, groups = cloud(8)
    report = gap_report(real, real, groups, seed=0)
    for name in ("paired_cosine", "centred_cosine", "trace_ratio", "spectral_correlation", "subspace_overlap"):
        assert report[name] == pytest.approx(1.0), name
    for name in ("centroid_distance", "frechet_distance", "pmb_norm", "pob_norm", "residual_anisotropy"):
        assert report[name] == pytest.approx(0.0, abs=1e-12), name


def test_two_pairs_and_collapsed_clouds_have_finite_reports():
    generated, real, _ = cloud(9, image_count=2, captions=1)
    for sides in ((generated, real), (torch.ones(4, 3), torch.ones(4, 3)), (torch.ones(4, 3), torch.eye(4)[:, :3] + 1)):
        report = gap_report(*sides, list(range(len(sides[0]))), seed=0)
        assert all(math.isfinite(value) for value in report.values()), report


def test_centred_cosine_takes_a_common_shift_away():
    generated, real, _ = cloud(10, noise=0.1)
    unit = real / real.norm(dim=1, keepdim=True)
    centred = unit - unit.mean(0)
    assert_equal_but_rounding(centred_cosine(real, real), torch.ones(len(real)))
    cross = torch.tensor([[1.0, 0.2], [1.0, -0.2]])
    assert centred_cosine(cross, cross.flip(0)).tolist() == pytest.approx([-1.0, -1.0])
    assert paired_cosine(cross, cross.flip(0)).min() > 0.9
    expected = torch.nn.functional.cosine_similarity(
        torch.nn.functional.normalize(generated, dim=1) - torch.nn.functional.normalize(generated, dim=1).mean(0),
        centred,
        dim=1,
    )
    assert torch.allclose(centred_cosine(generated, real), expected, atol=1e-5)


def test_inputs_are_left_alone():
    generated, real, groups = cloud(7)
    before = generated.clone(), real.clone()
    gap_report(generated.requires_grad_(), real, groups, seed=0)
    assert torch.equal(generated, before[0]) and torch.equal(real, before[1])


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: paired_cosine(torch.ones(2, 3), torch.ones(3, 3)), "of the same shape"),
        (lambda: paired_cosine(torch.ones(2, 3), torch.zeros(2, 3)), "real embeddings.*row 0"),
        (lambda: paired_cosine(torch.full((2, 3), torch.nan), torch.ones(2, 3)), "generated.*norm nan at row 0"),
        (lambda: centroid_distance(torch.ones(2, 3), torch.ones(2, 4)), "same width. Got 3 and 4"),
        (lambda: trace(torch.ones(3)), r"shape \[N, D\]"),
        (lambda: random_cosine(torch.ones(3, 2), torch.ones(3, 2), ["a", "a", "b"], seed=0), "Got 2 of 3"),
        (lambda: random_cosine(torch.ones(3, 2), torch.ones(3, 2), ["a", "b"], seed=0), "one group for each of the 3"),
        (lambda: probe_auc(torch.ones(4, 2), torch.ones(4, 2), list("aabb"), seed=0), "real images, 2. Got 5"),
        (lambda: probe_auc(torch.ones(4, 2), torch.ones(4, 2), list("aabb"), seed=0, folds=1), "between 2 and"),
        (lambda: probe_interval(torch.ones(4, 2), torch.ones(4, 2), list("abcd"), count=0, seed=0), "count, must be"),
    ],
)
def test_wrong_values_are_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        measure()
