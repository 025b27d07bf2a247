"""Bootstrap intervals against closed forms, permutation tests against every possible swap."""

import itertools

import numpy as np
import pytest

from gmail_kedro.metrics import statistics
from gmail_kedro.metrics.statistics import (
    Interval,
    bootstrap_interval,
    crossed_difference,
    paired_difference,
    permutation_p_value,
)


def test_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2000)
    interval = bootstrap_interval(values, count=4000, seed=1)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.mean == pytest.approx(half_width, rel=0.08)
    assert interval.mean - interval.low == pytest.approx(half_width, rel=0.08)


def test_coverage():
    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(rng.random(200) < 0.3, count=300, seed=seed) for seed in range(200)]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.05)


def test_resampled_means_have_the_moments_of_the_bootstrap():
    values = np.array([1.0, 4.0, 10.0])
    draws = statistics._resampled_means(values, np.ones(3), 4000, 5)
    assert draws.shape == (4000,)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.15)
    assert draws.var() == pytest.approx(values.var() / 3, rel=0.1)
    every_resample = {np.mean([a, b, c]) for a in values for b in values for c in values}
    assert set(draws.round(9)) == {round(mean, 9) for mean in every_resample}


def test_chunks_change_nothing(monkeypatch):
    values = np.random.default_rng(0).random(101)
    whole = bootstrap_interval(values, count=97, seed=3)
    monkeypatch.setattr(statistics, "CHUNK_VALUES", 1000)
    assert bootstrap_interval(values, count=97, seed=3) == whole
    monkeypatch.setattr(statistics, "CHUNK_VALUES", 1)
    assert bootstrap_interval(values, count=97, seed=3) == whole


def test_constant_and_single_values_give_no_width():
    assert bootstrap_interval(np.full(9, 2.0), count=50, seed=0) == Interval(2.0, 2.0, 2.0)
    assert bootstrap_interval(np.array([True]), count=50, seed=0) == Interval(1.0, 1.0, 1.0)


def test_higher_confidence_is_wider():
    values = np.random.default_rng(0).random(100)
    narrow = bootstrap_interval(values, count=500, seed=0, confidence=0.5)
    wide = bootstrap_interval(values, count=500, seed=0, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_difference_removes_what_items_share():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 10, size=300)
    a, b = difficulty + 0.5 + rng.normal(0, 0.1, 300), difficulty + rng.normal(0, 0.1, 300)
    interval = paired_difference(a, b, count=500, seed=0)
    assert interval.mean == pytest.approx(0.5, abs=0.03)
    assert 0 < interval.low < interval.high < 0.6


def test_paired_difference_is_the_bootstrap_of_differences():
    a, b = np.array([True, False, True, True]), np.array([False, False, True, False])
    expected = bootstrap_interval(np.array([1.0, 0.0, 0.0, 1.0]), count=100, seed=4)
    assert paired_difference(a, b, count=100, seed=4) == expected
    mirrored = paired_difference(b, a, count=100, seed=4)
    assert (mirrored.mean, mirrored.low) == (-expected.mean, pytest.approx(-expected.high))


def test_copies_of_an_item_add_nothing_when_grouped():
    real_images = np.random.default_rng(0).random(200) < 0.4
    once = bootstrap_interval(real_images, count=500, seed=0)
    names = [f"photo_{row:03d}" for row in range(200)]
    five_times = bootstrap_interval(np.repeat(real_images, 5), count=500, seed=0, groups=np.repeat(names, 5))
    assert (five_times.mean, five_times.low, five_times.high) == pytest.approx((once.mean, once.low, once.high))
    alone = bootstrap_interval(np.repeat(real_images, 5), count=500, seed=0)
    assert alone.high - alone.low < 0.6 * (once.high - once.low)  # what ignoring the real images would claim


def test_groups_of_unequal_size_keep_the_mean_over_items():
    values, groups = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 2])
    interval = bootstrap_interval(values, count=400, seed=0, groups=groups)
    assert interval == Interval(0.75, 0.0, 1.0)  # resamples are {1, 1}, {0, 0} or both
    difference = paired_difference(values, np.zeros(4), count=400, seed=0, groups=groups)
    assert difference == interval


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.array([]), {}, "must have shape .* not be empty"),
        (np.ones((2, 2)), {}, r"Got shape \[2, 2\]"),
        (np.array([1.0, np.nan]), {}, "must be finite. Got nan at item 1"),
        (np.ones(2), {"count": 0}, "count, must be positive"),
        (np.ones(2), {"confidence": 1.0}, "strictly between 0 and 1"),
        (np.ones(2), {"groups": ["a"]}, "one group for each of the 2 values"),
    ],
)
def test_wrong_values_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **({"count": 10, "seed": 0} | options))


def test_pairs_must_be_of_the_same_items():
    with pytest.raises(ValueError, match="Got 2 and 3"):
        paired_difference(np.ones(2), np.ones(3), count=10, seed=0)
    with pytest.raises(ValueError, match="second values must be finite"):
        paired_difference(np.ones(2), np.array([np.inf, 1]), count=10, seed=0)


def test_crossed_difference_allows_for_seeds_and_items():
    rng = np.random.default_rng(0)
    items, seeds = rng.normal(size=(1, 200)), rng.normal(size=(6, 1))
    shared = 10 * items + rng.normal(size=(6, 200))
    moved = shared + 1.0 + seeds + 0.1 * rng.normal(size=(6, 200))
    found = crossed_difference(moved, shared, count=400, seed=0)
    assert found.mean == pytest.approx(float((moved - shared).mean()))
    assert found.low < found.mean < found.high
    over_items = paired_difference(moved.mean(0), shared.mean(0), count=400, seed=0)
    assert found.high - found.low > 5 * (over_items.high - over_items.low)  # the seeds' own spread is in it
    assert crossed_difference(moved, shared, count=50, seed=3) == crossed_difference(moved, shared, count=50, seed=3)


def test_crossed_difference_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"two arrays \[seeds, items\]. Got \(2, 3\) and \(2, 4\)"):
        crossed_difference(np.zeros((2, 3)), np.zeros((2, 4)), count=10, seed=0)
    with pytest.raises(ValueError, match="must be finite"):
        crossed_difference(np.full((2, 3), np.nan), np.zeros((2, 3)), count=10, seed=0)


def test_the_p_value_equals_every_possible_swap():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8), rng.normal(size=8) + 0.6
    difference = a - b
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    assert permutation_p_value(a, b, count=40_000, seed=0) == pytest.approx(exact, abs=0.01)


def test_the_p_value_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(1)
    values = [permutation_p_value(*rng.normal(size=(2, 30)), count=200, seed=seed) for seed in range(300)]
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_the_p_value_has_its_limits():
    a = np.arange(50.0)
    assert permutation_p_value(a, a, count=100, seed=0) == 1.0
    assert permutation_p_value(a + 1, a, count=999, seed=0) == 1 / 1000
    assert permutation_p_value(a, a + 1, count=999, seed=0) == permutation_p_value(a + 1, a, count=999, seed=0)


def test_captions_of_one_real_image_are_swapped_together():
    rng = np.random.default_rng(2)
    real_images = np.repeat(np.arange(12), 20)
    a = rng.normal(size=12)[real_images] + 0.5
    b = np.zeros(240)
    alone = permutation_p_value(a, b, count=2000, seed=0)
    together = permutation_p_value(a, b, count=2000, seed=0, groups=real_images)
    by_real_image = permutation_p_value(a[::20], b[::20], count=2000, seed=0)
    assert together == pytest.approx(by_real_image, abs=0.03) and alone < together


def test_a_paired_test_needs_the_same_items():
    with pytest.raises(ValueError, match="same items on both sides. Got 3 and 2"):
        permutation_p_value(np.zeros(3), np.zeros(2), count=10, seed=0)
    with pytest.raises(ValueError, match="count, must be positive. Got 0"):
        permutation_p_value(np.zeros(3), np.zeros(3), count=0, seed=0)


@pytest.mark.parametrize("count", [2, 7, 101])
def test_independent_items_have_the_interval_that_scipy_gives(count: int):
    from scipy.stats import bootstrap

    values = np.random.default_rng(count).normal(size=count)
    ours = bootstrap_interval(values, count=999, seed=5)
    rng = np.random.default_rng(5)
    theirs = bootstrap((values,), np.mean, n_resamples=999, method="percentile", rng=rng).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
