"""Eq. 1 against a naive loop typed from the paper, closed forms, and what it must refuse."""

import math

import pytest
import torch

from gmail_kedro.method.alignment import alignment_loss, embedding_moments, moment_loss


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


def test_moment_loss_is_zero_for_equal_moments_and_sees_a_shared_component():
    rng = torch.Generator().manual_seed(1)
    real = torch.randn(40, 4, generator=rng, dtype=torch.float64)
    mean, covariance = embedding_moments(real)
    assert float(moment_loss(real, mean, covariance)) == pytest.approx(0.0, abs=1e-20)
    shifted = torch.nn.functional.normalize(real, dim=-1) + torch.tensor([2.0, 0, 0, 0])
    assert float(moment_loss(shifted, mean, covariance)) > 0.1


def test_moments_equal_numpy():
    import numpy as np

    rows = torch.randn(30, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    unit = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    mean, covariance = embedding_moments(rows)
    assert np.allclose(mean.numpy(), unit.mean(0))
    assert np.allclose(covariance.numpy(), np.cov(unit.T, bias=True))


def test_moment_loss_refuses_one_row():
    with pytest.raises(ValueError, match="B >= 2"):
        moment_loss(torch.ones(1, 3), torch.zeros(3), torch.zeros(3, 3))
