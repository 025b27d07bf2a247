"""Micro-batches: any split gives the whole batch's gradient."""

import numpy as np
import pytest
import torch

from gmail_kedro.engine.grad_cache import accumulate_gradients, grad_cache
from gmail_kedro.method.alignment import alignment_loss, embedding_moments, moment_loss, symmetric_loss

from ..precision import assert_equal_but_rounding

COUNT = 12


def problem(dtype=torch.float64, dropout=0.0):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Dropout(dropout), torch.nn.Linear(7, 4)).to(dtype)
    inputs, real = torch.randn(COUNT, 5, dtype=dtype), torch.randn(COUNT, 4, dtype=dtype)
    return model, inputs, real


def gradients(model):
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


@pytest.mark.reliability(17)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_accumulated_gradients_equal_the_full_batch_for_eq1(dtype, size):
    model, inputs, real = problem(dtype)
    rows, calls = np.arange(COUNT), []

    def embed(part):
        calls.append(len(part))
        return {"generated": model(inputs[part])}

    def losses(views, first):
        return {"loss": alignment_loss(views["generated"], real, temperature=0.07, first_positive=first)}

    whole = losses(embed(rows), 0)["loss"]
    whole.backward()
    expected = gradients(model)
    calls.clear()
    found = accumulate_gradients(embed, losses, rows, size=size)
    assert_equal_but_rounding(found["loss"].detach(), whole.detach())
    for a, b in zip(gradients(model), expected, strict=True):
        assert_equal_but_rounding(a, b)
    assert sum(calls) == COUNT  # one forward pass


@pytest.mark.reliability(17)
@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_grad_cache_equals_the_full_batch_for_losses_of_the_whole_cloud(size):
    model, inputs, real = problem()
    moments = embedding_moments(real)
    scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def embed(part):
        return {"generated": model(inputs[part]), "constant": real[part]}

    def losses(views):
        term = symmetric_loss(views["generated"], views["constant"], temperature=1 / scale, same_image=None)
        return {"loss": term + moment_loss(views["generated"], moments)}

    rows = np.arange(COUNT)
    losses(embed(rows))["loss"].backward()
    expected, scale_gradient = gradients(model), scale.grad.clone()
    scale.grad = None
    grad_cache(embed, losses, rows, size=size)
    for a, b in zip([*gradients(model), scale.grad], [*expected, scale_gradient], strict=True):
        assert_equal_but_rounding(a, b)


def test_dropout_repeats_itself_in_the_second_pass():
    model, inputs, _ = problem(dropout=0.5)
    seen = []

    def embed(part):
        views = {"generated": model(inputs[part])}
        seen.append(views["generated"].detach())
        return views

    torch.manual_seed(1)
    grad_cache(embed, lambda views: {"loss": views["generated"].square().sum()}, np.arange(COUNT), size=5)
    after = torch.rand(1)
    assert all(torch.equal(first, second) for first, second in zip(seen[:3], seen[3:], strict=True))
    assert not torch.equal(seen[0][0], seen[1][0])
    torch.manual_seed(1)
    for part in np.split(np.arange(COUNT), [5, 10]):
        model(inputs[part])
    assert torch.equal(after, torch.rand(1))
