"""Intervals around a mean over test items by the percentile bootstrap, and paired tests by permutation.

What is resampled must be independent. Five captions of one image are not: give their images as
``groups``, and whole images are resampled. CIDEr is such a mean, with its document frequencies held fixed.
BLEU and METEOR are not: ``jackknife_values`` turns what they lose without an item into numbers that can be treated so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# scipy.stats.bootstrap gives the same intervals where items are independent (a test holds the two together), but knows
# neither groups nor crossed seeds; permutation_test draws other swaps, so that stored p-values would change.

CHUNK_VALUES = 2**21  # numbers drawn at once; the stream of draws is the same for any size


@dataclass(frozen=True)
class Interval:
    """A mean and where it could have been, in the unit of the values.

    Attributes:
        mean: Mean of the values themselves.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: np.ndarray,
    *,
    count: int,
    seed: int,
    confidence: float = 0.95,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Interval:
    """Returns the mean of the values with its percentile bootstrap interval.

    Example:
        >>> bootstrap_interval(np.array([2.0, 2.0, 2.0]), count=100, seed=0)
        Interval(mean=2.0, low=2.0, high=2.0)

    Args:
        values: One number or bool for each test item, of shape [N].
        count: Resamples.
        seed: Seeds the resampling; the same seed gives the same interval.
        confidence: Share of the resampled means inside the interval, strictly between 0 and 1.
        groups: For each item what it shares with others, such as its image, of shape [N]; groups are
            resampled whole. Without it every item is resampled on its own.

    Raises:
        ValueError: If the values are not of shape [N], empty or not finite, the groups are not of shape [N], or
            ``count`` or ``confidence`` is out of range.
    """
    numbers = _check_values(values, "values")
    if count < 1:
        raise ValueError(f"The number of resamples, count, must be positive. Got {count} instead.")
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must be strictly between 0 and 1. Got {confidence} instead.")
    sums, sizes = (numbers, np.ones_like(numbers)) if groups is None else _group_sums(numbers, groups)
    tail = (1 - confidence) / 2
    low, high = np.quantile(_resampled_means(sums, sizes, count, seed), [tail, 1 - tail])
    return Interval(mean=float(numbers.mean()), low=float(low), high=float(high))


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    *,
    count: int,
    seed: int,
    confidence: float = 0.95,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Interval:
    """Returns the mean of ``a - b`` with its interval, both measured on the same test items.

    Resampling the differences keeps each item's two values together: what the two have in common cancels out,
    and the interval is narrower than one made from two separate ones.

    Args:
        a: One value for each item, of shape [N].
        b: The other system's values on the same items in the same order, of shape [N].
        count: Resamples.
        seed: Seeds the resampling.
        confidence: Share of the resampled means inside the interval, strictly between 0 and 1.
        groups: As in ``bootstrap_interval``.

    Raises:
        ValueError: If the two differ in length, or as in ``bootstrap_interval``.
    """
    return bootstrap_interval(_paired(a, b), count=count, seed=seed, confidence=confidence, groups=groups)


def permutation_p_value(
    a: np.ndarray,
    b: np.ndarray,
    *,
    count: int,
    seed: int,
    groups: Sequence[str] | np.ndarray | None = None,
) -> float:
    """Returns the two-sided p-value of a paired permutation test of equal means.

    If the two systems were the same, swapping their values on an item would change nothing: p is the share of random
    swaps whose difference of means is at least as large as the one observed, the observed one counted in, so that p is
    never 0. It says nothing about other training seeds.

    Example:
        >>> permutation_p_value(np.ones(4), np.ones(4), count=100, seed=0)
        1.0

    Args:
        a: One value for each item, of shape [N].
        b: The other system's values on the same items in the same order, of shape [N].
        count: Random swaps.
        seed: Seeds them.
        groups: As in ``bootstrap_interval``; the items of a group are swapped together.

    Raises:
        ValueError: If the two differ in length, a value is not finite, or ``count`` is not positive.
    """
    difference = _paired(a, b)
    if count < 1:
        raise ValueError(f"The number of permutations, count, must be positive. Got {count} instead.")
    sums = difference if groups is None else _group_sums(difference, groups)[0]
    observed, rng, rows = abs(sums.sum()), np.random.default_rng(seed), max(1, CHUNK_VALUES // len(sums))
    threshold = observed - 1e-9 * np.abs(sums).sum()  # sums of the same numbers in another order may round below it
    at_least = 0
    for start in range(0, count, rows):
        signs = rng.integers(2, size=(min(rows, count - start), len(sums))) * 2 - 1  # [rows, N]
        at_least += int((np.abs(signs @ sums) >= threshold).sum())
    return (at_least + 1) / (count + 1)


def crossed_difference(a: np.ndarray, b: np.ndarray, *, count: int, seed: int, confidence: float = 0.95) -> Interval:
    """Returns the mean of ``a - b`` over seeds and items, with an interval that allows for other seeds and items.

    Seeds and items are resampled independently and crossed, each pair of values staying together. An interval over
    items alone would say nothing about another training seed.

    Args:
        a: One value for each seed and item, of shape [S, N].
        b: The other system's values with the same seeds on the same items, of shape [S, N].
        count: Resamples.
        seed: Seeds the resampling.
        confidence: Share of the resampled means inside the interval, strictly between 0 and 1.

    Raises:
        ValueError: If the shapes differ, are not [S, N], or a value is not finite.
    """
    if a.ndim != 2 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"A crossed difference needs two arrays [seeds, items]. Got {a.shape} and {b.shape} instead.")
    difference = _check_values(np.asarray(a - b).reshape(-1), "differences").reshape(a.shape)  # [S, N]
    rng, seeds, items = np.random.default_rng(seed), a.shape[0], a.shape[1]
    means = np.empty(count)
    for index in range(count):
        # How often each seed and each item was drawn: their product weighs the table without copying it.
        rows = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)  # [S]
        columns = np.bincount(rng.integers(items, size=items), minlength=items)  # [N]
        means[index] = rows @ difference @ columns / (seeds * items)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))


def jackknife_values(score: float, without: np.ndarray) -> np.ndarray:
    """Returns what each item contributes to a score of all items that is not the mean of theirs.

    The mean of the values is the score, and their spread is what the score's own would be with other items, to first
    order (the jackknife's estimate of influence, Efron 1982): their bootstrap interval is the score's.

    Example:
        >>> jackknife_values(2.0, np.array([2.5, 2.0, 1.5]))
        array([1., 2., 3.])

    Args:
        score: The score of all items.
        without: The score of all items but one, for each, of shape [N].

    Raises:
        ValueError: If there are no values, or one is not finite.
    """
    left_out = _check_values(without, "scores without an item")
    return score + (len(left_out) - 1) * (left_out.mean() - left_out)


def _paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the differences, item by item."""
    first, second = _check_values(a, "first values"), _check_values(b, "second values")
    if len(first) != len(second):
        raise ValueError(f"A paired difference needs the same items on both sides. Got {len(first)} and {len(second)}.")
    return first - second


def _group_sums(numbers: np.ndarray, groups: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum of each group's values and the number of its items."""
    names = np.asarray(groups)
    if names.shape != numbers.shape:
        raise ValueError(
            f"There must be one group for each of the {len(numbers)} values. Got shape {list(names.shape)}."
        )
    index = np.unique(names, return_inverse=True)[1]
    return np.bincount(index, weights=numbers), np.bincount(index).astype(np.float64)


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns ``count`` means of resamples, made a chunk of resamples at a time to bound memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK_VALUES // len(sums))
    means = np.empty(count)
    for start in range(0, count, rows):
        draws = rng.integers(len(sums), size=(min(rows, count - start), len(sums)))  # [rows, N]
        means[start : start + len(draws)] = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return means


def _check_values(values: np.ndarray, name: str) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"The {name} must have shape [N] and not be empty. Got shape {list(numbers.shape)} instead.")
    if not np.isfinite(numbers).all():
        item = int((~np.isfinite(numbers)).argmax())
        raise ValueError(f"The {name} must be finite. Got {numbers[item]} at item {item}.")
    return numbers
