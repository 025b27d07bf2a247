"""Eq. 1 against a naive loop typed from the paper, closed forms, and what it must refuse; moments against moments."""

import math

import numpy as np
import pytest
import torch

from gmail_kedro.method.alignment import (
    alignment_loss,
    cosine_loss,
    embedding_moments,
    mmd_loss,
    moment_loss,
    sigmoid_alignment_loss,
    symmetric_loss,
)


def naive_eq1(generated, real, temperature, first_positive=0, same_image=None):
    """The paper's formula, row by row, with plain numbers."""
    total = 0.0
    for i, anchor in enumerate(generated.tolist()):
        scores = []
        for candidate in real.tolist():
            dot = sum(a * b for a, b in zip(anchor, candidate, strict=True))
            norms = math.sqrt(sum(a * a for a in anchor)) * math.sqrt(sum(b * b for b in candidate))
            scores.append(dot / norms / temperature)
        positive = first_positive + i
        kept = [
            score for j, score in enumerate(scores) if j == positive or same_image is None or not bool(same_image[i, j])
        ]
        total -= scores[positive] - math.log(sum(math.exp(score) for score in kept))
    return total / len(generated)


@pytest.fixture
def embeddings():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=rng, dtype=torch.float64), torch.randn(9, 5, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("first_positive", [0, 3])
def test_equals_the_naive_loop(embeddings, first_positive):
    generated, real = embeddings
    loss = alignment_loss(generated, real, temperature=0.07, first_positive=first_positive)
    assert float(loss) == pytest.approx(naive_eq1(generated, real, 0.07, first_positive), abs=1e-10)


@pytest.mark.reliability(17)
def test_same_image_columns_are_no_negatives(embeddings):
    generated, real = embeddings
    ids = torch.tensor([0, 0, 1, 2, 2, 2])
    same = ids[:, None] == torch.tensor([0, 0, 1, 2, 2, 2, 7, 8, 0])[None, :]
    masked = alignment_loss(generated, real, temperature=0.5, same_image=same)
    assert float(masked) == pytest.approx(naive_eq1(generated, real, 0.5, same_image=same), abs=1e-10)
    assert masked < alignment_loss(generated, real, temperature=0.5)


def test_identical_candidates_give_log_of_their_number():
    one = torch.ones(4, 3)
    assert float(alignment_loss(one, one, temperature=0.07)) == pytest.approx(math.log(4), abs=1e-6)


def test_scale_of_the_embeddings_does_not_matter(embeddings):
    generated, real = embeddings
    assert torch.allclose(
        alignment_loss(generated, real, temperature=0.07), alignment_loss(3 * generated, 7 * real, temperature=0.07)
    )


def test_micro_batches_add_up_to_the_full_gradient(embeddings):
    generated, real = embeddings
    whole = generated.clone().requires_grad_()
    alignment_loss(whole, real, temperature=0.07).backward()
    parts = generated.clone().requires_grad_()
    for start in (0, 2, 4):
        (alignment_loss(parts[start : start + 2], real, temperature=0.07, first_positive=start) * 2 / 6).backward()
    assert torch.allclose(whole.grad, parts.grad, atol=1e-12)


def test_gradient_passes_gradcheck(embeddings):
    generated, real = embeddings
    assert torch.autograd.gradcheck(lambda g: alignment_loss(g, real, temperature=0.3), generated.requires_grad_())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature of alignment_loss must be greater than 0. Got 0.0"),
        ({"temperature": -1.0}, "must be greater than 0"),
        ({"temperature": float("nan")}, "must be greater than 0"),
        ({"temperature": 1.0, "first_positive": 4}, "must lie among the 9 candidates"),
        ({"temperature": 1.0, "same_image": torch.zeros(2, 2, dtype=torch.bool)}, r"must be of shape \[6, 9\]"),
    ],
)
def test_refuses_what_makes_no_sense(embeddings, arguments, message):
    with pytest.raises(ValueError, match=message):
        alignment_loss(*embeddings, **arguments)


def test_refuses_other_widths(embeddings):
    with pytest.raises(ValueError, match="of one width D"):
        alignment_loss(embeddings[0], embeddings[1][:, :4], temperature=1.0)


def test_sigmoid_form_equals_the_naive_sum(embeddings):
    generated, real = embeddings
    total = 0.0
    for i in range(6):
        for j in range(9):
            cosine = float(torch.nn.functional.cosine_similarity(generated[i], real[j], dim=0))
            sign = 1 if j == i + 2 else -1
            total += math.log(1 + math.exp(-sign * (10 * cosine - 3)))
    loss = sigmoid_alignment_loss(generated, real, scale=10.0, bias=-3.0, first_positive=2)
    assert float(loss) == pytest.approx(total / 6, abs=1e-10)


def test_sigmoid_form_leaves_same_images_out(embeddings):
    generated, real = embeddings
    same = torch.ones(6, 9, dtype=torch.bool)
    only_pairs = sigmoid_alignment_loss(generated, real, scale=10.0, bias=0.0, same_image=same)
    cosines = torch.nn.functional.cosine_similarity(generated, real[:6])
    assert float(only_pairs) == pytest.approx(float(torch.log1p(torch.exp(-10 * cosines)).mean()), abs=1e-10)


def test_symmetric_loss_is_the_mean_of_both_directions(embeddings):
    generated, real = embeddings[0], embeddings[1][:6]
    both = symmetric_loss(generated, real, temperature=0.2, same_image=None)
    assert float(both) == pytest.approx((naive_eq1(generated, real, 0.2) + naive_eq1(real, generated, 0.2)) / 2)


def test_cosine_loss_counts_angles_only():
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert float(cosine_loss(first, torch.tensor([[5.0, 0.0], [0.0, -1.0]]))) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="rows in pairs"):
        cosine_loss(first, first[:1])


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
