"""Spectra whose answers are known: axes, lines, power laws, rotations, Gaussians with a closed form."""

import math

import pytest
import torch

from gmail_kedro.method.gap import trace
from gmail_kedro.method.spectrum import (
    anisotropy,
    condition_number,
    effective_dimension,
    effective_rank,
    eigenvalues,
    frechet_distance,
    power_law_exponent,
    spectral_correlation,
    subspace_overlap,
    summarize_spectra,
)

AXES = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])


def gaussian(seed, rows, width):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normalized(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def test_eigenvalues_of_axes_and_of_a_covariance():
    assert eigenvalues(AXES * 5).tolist() == pytest.approx([0.5, 0.5, 0.0])
    rows = gaussian(0, 50, 7)
    unit = normalized(rows)
    expected = torch.linalg.eigvalsh(torch.cov(unit.T, correction=0)).flip(0)
    assert eigenvalues(rows).tolist() == pytest.approx(expected.tolist())
    assert float(eigenvalues(rows).sum()) == pytest.approx(trace(rows))


def test_equal_directions_are_counted():
    for count in (1, 2, 5):
        spectrum = torch.tensor([0.3] * count + [0.0] * 3)
        assert effective_rank(spectrum) == pytest.approx(count)
        assert effective_dimension(spectrum) == pytest.approx(count)
        assert anisotropy(spectrum, 10) == pytest.approx(10 / count)
        assert condition_number(spectrum) == pytest.approx(1.0)


def test_unequal_directions_by_hand():
    spectrum = torch.tensor([0.75, 0.25])
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert effective_rank(spectrum) == pytest.approx(math.exp(entropy))
    assert effective_dimension(spectrum) == pytest.approx(1 / (0.75**2 + 0.25**2))
    assert anisotropy(spectrum, 2) == pytest.approx(1.5)
    assert condition_number(spectrum) == pytest.approx(3.0)


def test_a_single_point_has_no_shape():
    spectrum = eigenvalues(torch.ones(5, 3))
    shapes = effective_rank(spectrum), effective_dimension(spectrum), anisotropy(spectrum, 3)
    assert (*shapes, power_law_exponent(spectrum)) == (0.0, 0.0, 0.0, 0.0)
    assert condition_number(spectrum) == 1.0


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.83])
@pytest.mark.parametrize("energy", [0.9, 0.99, 1.0])
def test_a_power_law_gives_its_exponent(alpha, energy):
    assert power_law_exponent(torch.arange(1, 101).double() ** -alpha, energy=energy) == pytest.approx(alpha)


def test_the_tail_beyond_the_energy_is_left_out():
    head = torch.arange(1, 11).double() ** -1.0
    spectrum = torch.cat([head, torch.full((5,), 1e-6, dtype=torch.float64)])
    assert power_law_exponent(spectrum, energy=0.99) == pytest.approx(1.0)
    assert power_law_exponent(spectrum, energy=1.0) > 3


def test_spectral_correlation():
    spectrum = torch.tensor([4.0, 2.0, 1.0])
    assert spectral_correlation(spectrum, 3 * spectrum) == pytest.approx(1.0)
    assert spectral_correlation(spectrum, torch.tensor([1.0, 1.0, 1.0])) == 0.0
    assert spectral_correlation(spectrum, torch.tensor([8.0, 4.0, 2.0, 0.5])) == pytest.approx(1.0)
    by_hand = torch.corrcoef(torch.tensor([[4.0, 2.0, 1.0], [3.0, 2.5, 0.5]]))[0, 1]
    assert spectral_correlation(spectrum, torch.tensor([3.0, 2.5, 0.5])) == pytest.approx(float(by_hand))


def test_subspaces_overlap_by_their_shared_share():
    first = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0]])
    second = first[:, [0, 2, 1, 3]]  # spans axes 0 and 2
    assert subspace_overlap(first, first, rank=2) == pytest.approx(1.0)
    assert subspace_overlap(first, second, rank=2) == pytest.approx(0.5)
    assert subspace_overlap(first, first[:, [2, 3, 0, 1]], rank=2) == pytest.approx(0.0)


def test_frechet_distance_of_axis_aligned_clouds_by_hand():
    # Variances (a, b) against (c, d): (sqrt a - sqrt c)^2 + (sqrt b - sqrt d)^2, means equal.
    second = torch.cat([AXES[:2], AXES[:2], AXES[:2], AXES[2:]])  # variances 3/4 and 1/4
    expected = (math.sqrt(0.75) - math.sqrt(0.5)) ** 2 + (math.sqrt(0.25) - math.sqrt(0.5)) ** 2
    assert frechet_distance(AXES, second) == pytest.approx(expected)
    shifted = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert frechet_distance(*shifted) == pytest.approx(2.0)


@pytest.mark.parametrize(("rows", "other", "width"), [(60, 50, 6), (8, 9, 20), (40, 5, 12)])
def test_frechet_distance_equals_the_matrix_root(rows, other, width):
    import numpy as np
    from scipy.linalg import sqrtm

    generated, real = gaussian(1, rows, width) + 0.5, gaussian(2, other, width)
    units = normalized(generated), normalized(real)
    covariances = [torch.cov(unit.T, correction=0).numpy() for unit in units]
    between = float((units[0].mean(0) - units[1].mean(0)).square().sum())
    root = np.trace(np.real(sqrtm(covariances[0] @ covariances[1])))
    expected = between + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert frechet_distance(generated, real) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(real, generated) == pytest.approx(frechet_distance(generated, real), abs=1e-12)


def test_frechet_distance_of_a_cloud_to_itself_is_zero():
    for rows in (5, 200):
        cloud = gaussian(3, rows, 32).float()
        assert frechet_distance(cloud, cloud) == pytest.approx(0.0, abs=1e-12)
        assert frechet_distance(cloud, cloud[torch.randperm(rows)]) == pytest.approx(0.0, abs=1e-12)


def test_residuals_are_what_a_shift_leaves():
    real = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    summary = summarize_spectra(-real, real)  # residuals 2 real: two equal directions of three
    assert summary["residual_anisotropy"] == pytest.approx(1.5)
    assert summary["residual_effective_dimension"] == pytest.approx(2.0)
    assert summary["effective_rank_generated"] == summary["effective_rank_real"] == pytest.approx(2.0)
    assert summarize_spectra(real, real)["residual_anisotropy"] == 0.0


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: eigenvalues(torch.zeros(2, 3)), "norm 0.0 at row 0"),
        (lambda: power_law_exponent(torch.ones(3), energy=0.0), "at most 1. Got 0.0"),
        (lambda: power_law_exponent(torch.ones(3), energy=1.5), "at most 1. Got 1.5"),
        (lambda: subspace_overlap(AXES, AXES, rank=0), "between 1 and 3. Got 0"),
        (lambda: subspace_overlap(AXES, AXES[:2], rank=3), "between 1 and 2. Got 3"),
        (lambda: frechet_distance(AXES, torch.ones(2, 2)), "same width. Got 3 and 2"),
        (lambda: summarize_spectra(AXES, AXES[:2]), "of the same shape"),
    ],
)
def test_wrong_values_are_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        measure()
