"""The fixed-frame decomposition: gaps built from known parts, and its Pythagoras."""

import math

import pytest
import torch

from gmail_kedro.method.frame import FixedFrame, decompose_gap, fit_frame, relative_drift
from gmail_kedro.method.gap import centroid_distance


def clouds(seed=0, rows=200, width=10):
    rng = torch.Generator().manual_seed(seed)
    real = torch.randn(rows, width, generator=rng, dtype=torch.float64)
    return real + 0.4 * torch.randn(rows, width, generator=rng, dtype=torch.float64) + 0.3, real


def axis_frame(width, rank):
    axes = torch.eye(width, dtype=torch.float64)
    return FixedFrame(principal=axes[:, :rank], orthogonal=axes[:, rank:])


def test_the_parts_add_up():
    generated, real = clouds()
    parts = decompose_gap(fit_frame(generated, real, rank=4), generated, real)
    gap = (real / real.norm(dim=1, keepdim=True)) - (generated / generated.norm(dim=1, keepdim=True))
    assert torch.allclose(parts.pmb + parts.pob, gap.mean(0), atol=1e-12)
    assert float(parts.pmb @ parts.pob) == pytest.approx(0.0, abs=1e-12)
    norms = parts.scores()["pmb_norm"] ** 2 + parts.scores()["pob_norm"] ** 2
    assert norms == pytest.approx(centroid_distance(generated, real) ** 2)
    traces = float(parts.principal_spectrum.sum() + parts.orthogonal_spectrum.sum())
    assert traces == pytest.approx(float((gap - gap.mean(0)).square().sum(1).mean()))


def test_a_gap_of_known_parts():
    # Unit rows in pairs that differ by (2, 0, 0) + noise along axes 1 and 2.
    up, down = math.sqrt(1 - 0.09 - 0.01), math.sqrt(1 - 0.09 - 0.01)
    real = torch.tensor([[up, 0.3, 0.1], [up, -0.3, 0.1], [up, 0.3, -0.1], [up, -0.3, -0.1]], dtype=torch.float64)
    generated = -real * torch.tensor([down / up, 1.0, 1.0], dtype=torch.float64)
    scores = decompose_gap(axis_frame(3, 1), generated, real).scores()
    assert scores["pmb_norm"] == pytest.approx(2 * up) and scores["pob_norm"] == pytest.approx(0.0, abs=1e-12)
    assert scores["principal_residual_trace"] == pytest.approx(0.0, abs=1e-12)
    assert scores["orthogonal_residual_trace"] == pytest.approx(4 * (0.09 + 0.01))
    assert scores["orthogonal_residual_condition"] == pytest.approx(9.0)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0])
def test_the_angle_between_bias_and_noise(degrees):
    # Bias at an angle to axis 1, noise along axis 1 only, both outside U (axis 0).
    bias = 0.1 * torch.tensor([0.0, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).double()
    noise = torch.tensor([[0.0, 0.05, 0.0], [0.0, -0.05, 0.0]], dtype=torch.float64)
    gap = bias + noise
    middle = torch.tensor([0.9, 0.0, 0.0], dtype=torch.float64)
    # Both ends of a gap that is orthogonal to the middle have the same norm; one norm for all rows keeps them unit.
    ends = [middle + sign * gap / 2 for sign in (1, -1)]
    lengths = ends[0].norm(dim=1, keepdim=True)
    parts = decompose_gap(axis_frame(3, 1), ends[1] / lengths, ends[0] / lengths)
    assert parts.pob_angle == pytest.approx(degrees, abs=0.2)
    assert decompose_gap(axis_frame(3, 1), ends[0], ends[0]).pob_angle == 90.0


def test_the_frame_holds_the_leading_directions_of_both_clouds():
    generated, real = clouds(1)
    frame = fit_frame(generated, real, rank=3)
    units = [rows / rows.norm(dim=1, keepdim=True) for rows in (generated, real)]
    values, vectors = torch.linalg.eigh(sum(torch.cov(unit.T, correction=0) for unit in units))
    overlap = frame.principal.T @ vectors.flip(1)[:, :3]
    assert torch.allclose(overlap.abs(), torch.eye(3, dtype=torch.float64), atol=1e-8)
    both = torch.cat([frame.principal, frame.orthogonal], dim=1)
    assert torch.allclose(both.T @ both, torch.eye(10, dtype=torch.float64), atol=1e-12)
    assert frame.rank == 3


def test_the_frame_stays_while_the_student_moves():
    generated, real = clouds(2)
    frame = fit_frame(generated, real, rank=2)
    before, after = (decompose_gap(frame, side, real) for side in (generated, generated + frame.orthogonal[:, 0]))
    assert after.scores()["pob_norm"] > before.scores()["pob_norm"]
    assert relative_drift(after.pob, before.pob) > 0.1
    assert relative_drift(before.pob, before.pob) == 0.0
    assert relative_drift(torch.ones(1), torch.zeros(1)) == math.inf
    assert relative_drift(torch.zeros(1), torch.zeros(1)) == 0.0


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda g, r: fit_frame(g, r, rank=10), "between 1 and 9. Got 10"),
        (lambda g, r: fit_frame(g, r, rank=0), "between 1 and 9. Got 0"),
        (lambda g, r: decompose_gap(axis_frame(4, 2), g, r), "embeddings of width 4. Got 10"),
        (lambda g, r: decompose_gap(axis_frame(10, 2), g[:3], r), "of the same shape"),
    ],
)
def test_wrong_values_are_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        measure(*clouds())
