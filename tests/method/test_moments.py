"""Moments of a batch against moments of all: zero when equal, each form blind to what it does not match."""

import numpy as np
import pytest
import torch

from gmail_kedro.method.moments import embedding_moments, mmd_loss, moment_loss

FORMS = ("mean", "covariance", "mean_covariance", "trace")


@pytest.fixture
def real():
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_equal_moments_cost_nothing_and_a_shared_component_is_seen(real, form):
    moments = embedding_moments(real)
    assert float(moment_loss(real, moments, form=form)) == pytest.approx(0.0, abs=1e-20)
    shifted = torch.nn.functional.normalize(real, dim=-1) + torch.tensor([2.0, 0, 0, 0])
    assert float(moment_loss(shifted, moments, form=form)) > 0.05


def test_moments_equal_numpy():
    rows = torch.randn(30, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    unit = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    moments = embedding_moments(rows)
    assert np.allclose(moments.mean.numpy(), unit.mean(0))
    assert np.allclose(moments.covariance.numpy(), np.cov(unit.T, bias=True))


def test_forms_add_up_and_the_trace_form_sees_the_spread_alone(real):
    moments, other = embedding_moments(real), real[:20] + 0.5
    parts = {form: float(moment_loss(other, moments, form=form)) for form in FORMS}
    assert parts["mean_covariance"] == pytest.approx(parts["mean"] + parts["covariance"])
    spread = [float(embedding_moments(rows).covariance.trace()) for rows in (other, real)]
    assert parts["trace"] - parts["mean"] == pytest.approx((spread[0] - spread[1]) ** 2)


def test_unbiased_mmd_averages_to_zero_on_one_distribution_and_grows_with_a_shift():
    rng = torch.Generator().manual_seed(3)

    def draw(shift):
        return torch.randn(60, 5, generator=rng, dtype=torch.float64) + shift

    same = [float(mmd_loss(draw(0.0), draw(0.0))) for _ in range(30)]
    shifted = [float(mmd_loss(draw(0.5), draw(0.0))) for _ in range(5)]
    assert abs(np.mean(same)) < 0.02 and min(same) < 0 < max(same)
    assert min(shifted) > 3 * max(abs(value) for value in same)


def test_mmd_equals_the_naive_double_loop():
    rng = torch.Generator().manual_seed(4)
    x, y = (
        torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=-1) for n in (4, 5)
    )
    scale = float(torch.cdist(x, y).square().mean())

    def kernel(a, b):
        distance = float((a - b).square().sum())
        return sum(np.exp(-distance / (2 * factor * scale)) for factor in (0.25, 0.5, 1.0, 2.0, 4.0))

    xx = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    assert float(mmd_loss(x, y)) == pytest.approx(xx + yy - 2 * xy, abs=1e-10)


def test_whitened_mean_is_the_mahalanobis_distance_of_the_means_without_the_batchs_noise(real):
    rng = torch.Generator().manual_seed(5)
    real = torch.nn.functional.normalize(torch.randn(4000, 4, generator=rng, dtype=torch.float64), dim=-1)
    moments = embedding_moments(real)
    ridged = moments.covariance + 0.1 * moments.covariance.trace() / 4 * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(moments.whitener.T @ moments.whitener, torch.linalg.inv(ridged))
    shifted = torch.nn.functional.normalize(real + torch.tensor([0.3, 0, 0, 0]), dim=-1)
    gap = embedding_moments(shifted).mean - moments.mean
    exact = float(gap @ torch.linalg.inv(ridged) @ gap)
    batches = [float(moment_loss(shifted[i : i + 8], moments, form="whitened_mean")) for i in range(0, 4000, 8)]
    assert np.mean(batches) == pytest.approx(exact, abs=0.06)
    unshifted = [float(moment_loss(real[i : i + 8], moments, form="whitened_mean")) for i in range(0, 4000, 8)]
    assert abs(np.mean(unshifted)) < 0.06 and min(unshifted) < 0


def test_what_makes_no_sense_is_refused(real):
    moments = embedding_moments(real)
    with pytest.raises(ValueError, match="B >= 2"):
        moment_loss(real[:1], moments)
    with pytest.raises(ValueError, match="one of .*'trace'.*Got 'median'"):
        moment_loss(real, moments, form="median")
    with pytest.raises(ValueError, match="samples of mmd_loss"):
        mmd_loss(real, real[:1])
