"""Can a linear probe still tell generated embeddings from real ones?

Logistic regression on standardised features, tested on real images it has not seen. All embeddings of one real image,
its own and those of the images generated from its captions, are in one fold: otherwise the probe could know a scene
again instead of a modality. Inputs are as in ``gap``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gmail_kedro.method.unit_rows import group_numbers, unit_pairs


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear probe tells generated from real embeddings.

    Attributes:
        auc: Area under the ROC curve on held-out real images; 0.5 cannot tell, 1 always can.
        null_auc: The same after swapping the labels of random pairs: what no gap looks like at this size.
    """

    auc: float
    null_auc: float


def probe_auc(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int, folds: int = 5
) -> ProbeResult:
    """Trains a probe on all folds but one and tests it on that one; returns the mean AUC over the folds.

    An AUC far below 0.5 is no small gap: it says that the two means were matched on these very rows. The seed decides
    the folds and the swaps of the null.

    Raises:
        ValueError: As in ``gap``, or if there are fewer real images than folds, or fewer than 2 folds.
    """
    features, numbers = _both_sides(generated, real, groups, folds)
    swapped = np.random.default_rng(seed).random(len(numbers)) < 0.5  # [N]
    is_generated = np.repeat([True, False], len(numbers))  # [2N]
    null_labels = is_generated ^ np.concatenate([swapped, swapped])
    return ProbeResult(
        auc=_held_out_auc(features, is_generated, numbers, seed, folds),
        null_auc=_held_out_auc(features, null_labels, numbers, seed, folds),
    )


def probe_interval(
    generated: torch.Tensor,
    real: torch.Tensor,
    groups: Sequence[str] | np.ndarray,
    *,
    count: int,
    seed: int,
    folds: int = 5,
) -> tuple[float, float]:
    """Returns where the AUC of ``probe_auc`` could have been: a 95 % percentile bootstrap of ``count`` resamples.

    The real images of each held-out fold are resampled; the probes are not trained again, so the interval does
    not hold the chance of their training.

    Raises:
        ValueError: As in ``probe_auc``, or if ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"The number of resamples, count, must be positive. Got {count} instead.")
    features, numbers = _both_sides(generated, real, groups, folds)
    is_generated = np.repeat([True, False], len(numbers))
    rng = np.random.default_rng(seed)
    total = np.zeros(count)
    for test, scores in _out_of_fold(features, is_generated, numbers, seed, folds):
        side = len(test) // 2  # the fold holds both sides of the same pairs, generated first
        # An AUC is a mean over pairs of rows, so counting wins between real images once makes every resample of
        # them a product of small matrices, and no resample has to be scored again.
        wins = _wins_by_group(scores[:side], scores[side:], numbers[test[:side]])  # [P, P]
        drawn = rng.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), size=count).astype(np.float64)
        sizes = np.unique(numbers[test[:side]], return_counts=True)[1]  # [P]
        total += ((drawn @ wins) * drawn).sum(axis=1) / np.square(drawn @ sizes)
    low, high = np.quantile(total / folds, [0.025, 0.975])
    return float(low), float(high)


def _both_sides(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features [2N, D], generated first, and the number of each pair's real image [N]."""
    unit_generated, unit_real = unit_pairs(generated, real)
    numbers = group_numbers(groups, len(generated))
    group_count = int(numbers.max()) + 1
    if not 2 <= folds <= group_count:
        raise ValueError(
            f"The number of folds must be between 2 and the number of real images, {group_count}. Got {folds}."
        )
    return torch.cat([unit_generated, unit_real]).cpu().numpy(), numbers


def _held_out_auc(features: np.ndarray, labels: np.ndarray, numbers: np.ndarray, seed: int, folds: int) -> float:
    from sklearn.metrics import roc_auc_score

    parts = _out_of_fold(features, labels, numbers, seed, folds)
    return float(np.mean([roc_auc_score(labels[test], scores) for test, scores in parts]))


def _out_of_fold(
    features: np.ndarray, labels: np.ndarray, numbers: np.ndarray, seed: int, folds: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows of each fold, in ascending order, and their scores by a probe trained on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splitter = GroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(features, labels, np.concatenate([numbers, numbers])):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[train], labels[train])
        yield test, probe.decision_function(features[test])


def _wins_by_group(generated: np.ndarray, real: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns how often a generated row of real image i scores above a real row of j, ties half: [P, P]."""
    higher = (generated[:, None] > real[None, :]) + 0.5 * (generated[:, None] == real[None, :])  # [n, n]
    index = np.unique(numbers, return_inverse=True)[1]
    member = (index[None, :] == np.arange(index.max() + 1)[:, None]).astype(np.float64)  # [P, n]
    return member @ higher @ member.T
