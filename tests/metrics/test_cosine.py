"""Exact cosines: checks of rows, and products that do not depend on how they are computed."""

import pytest
import torch

from gmail_kedro.metrics.cosine import GRID, check_rows, grid_rows


def test_grid_rows_are_whole_and_close_to_unit_rows():
    rows = torch.randn(50, 33, generator=torch.Generator().manual_seed(0))
    grid = grid_rows(rows)
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    assert torch.equal(grid, grid.round())
    assert (grid / GRID - unit).abs().max() <= 0.5 / GRID + 1e-12


def test_products_are_whole_numbers_whatever_the_order_of_summation():
    rng = torch.Generator().manual_seed(1)
    left, right = grid_rows(torch.randn(40, 512, generator=rng)), grid_rows(torch.randn(30, 512, generator=rng))
    order = torch.randperm(512, generator=rng)
    by_hand = [[sum(int(a) * int(b) for a, b in zip(x, y, strict=True)) for y in right[:3]] for x in left[:3]]
    product = left @ right.T
    assert torch.equal(product, left[:, order] @ right[:, order].T)
    assert torch.equal(product[7:8, 5:6], left[7:8] @ right[5:6].T)
    assert product[:3, :3].long().tolist() == by_hand


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_row_without_direction_is_named(value):
    rows = torch.ones(4, 3, dtype=torch.float16)
    rows[2] = value
    with pytest.raises(ValueError, match=r"text embeddings.*row 2 \(1 such rows\)"):
        check_rows(rows, "text")


def test_float16_rows_whose_squares_overflow_are_fine():
    check_rows(torch.full((2, 3), 6e4, dtype=torch.float16), "text")


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (1, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"image embeddings must have shape \[N, D\]"):
        check_rows(torch.ones(shape), "image")


def test_integers_are_refused():
    with pytest.raises(TypeError, match="must be floating point"):
        check_rows(torch.ones(2, 2, dtype=torch.int64), "image")
