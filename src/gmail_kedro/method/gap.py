"""The modality gap: how far apart generated and real embeddings are, seen from four sides.

A pair is one generated image and the photograph whose caption made it. ``paired_cosine`` says how close pairs are,
``random_cosine`` how close strangers are, ``centroid_distance`` and ``trace`` how the two clouds lie, and
``probe_auc`` whether a linear probe can still tell them apart. All look at unit-normalised embeddings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear probe tells generated from real embeddings.

    Attributes:
        auc: Area under the ROC curve on held-out photographs; 0.5 cannot tell, 1 always can.
        null_auc: The same after swapping the labels of random pairs: what no gap looks like at this size.
    """

    auc: float
    null_auc: float


def paired_cosine(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Returns the cosine of every pair (Table 14), float32 of shape [N].

    Example:
        >>> paired_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([0.7071])

    Args:
        generated: Embeddings of generated images [N, D], any norm.
        real: Embeddings of their photographs [N, D], any norm.

    Raises:
        ValueError: If the shapes differ, or a row is zero or not finite.
    """
    unit_generated, unit_real = _unit_pairs(generated, real)
    return (unit_generated * unit_real).sum(dim=1).float()


def random_cosine(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int
) -> torch.Tensor:
    """Returns the cosine of every generated image with a random other photograph, float32 of shape [N].

    Args:
        generated: Embeddings of generated images [N, D].
        real: Embeddings of their photographs [N, D].
        groups: The photograph of each pair, of shape [N].
        seed: Seeds the choice.

    Raises:
        ValueError: If the shapes differ, a row is zero or not finite, or one photograph has more than half of
            the pairs, so that not every pair can get a stranger.
    """
    strangers = torch.as_tensor(_derangement(_group_numbers(groups, len(generated)), seed), device=real.device)
    return paired_cosine(generated, real[strangers])


def centroid_distance(generated: torch.Tensor, real: torch.Tensor) -> float:
    """Returns ||mu_g - mu_r||, the distance of the means of the unit embeddings, between 0 and 2.

    Args:
        generated: Embeddings of generated images [N, D].
        real: Embeddings of photographs [M, D].

    Raises:
        ValueError: If the widths differ, or a row is zero or not finite.
    """
    means = _unit_rows(generated, "generated").mean(dim=0), _unit_rows(real, "real").mean(dim=0)
    if means[0].shape != means[1].shape:
        widths = f"{len(means[0])} and {len(means[1])}"
        raise ValueError(f"Generated and real embeddings must have the same width. Got {widths} instead.")
    return float(torch.linalg.vector_norm(means[0] - means[1]))


def trace(embeddings: torch.Tensor) -> float:
    """Returns E||e - mu||^2 of the unit embeddings: the trace of their covariance, which is 1 - ||mu||^2.

    Args:
        embeddings: Of shape [N, D], any norm.

    Raises:
        ValueError: If the shape is not [N, D], or a row is zero or not finite.
    """
    unit = _unit_rows(embeddings, "given")
    return float((unit - unit.mean(dim=0)).square().sum(dim=1).mean())


def probe_auc(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int, folds: int = 5
) -> ProbeResult:
    """Trains a linear probe to tell generated from real and tests it on photographs it has not seen.

    Logistic regression on standardised features. All images of one photograph, real and generated, are in one
    fold; the result is the mean over folds.

    Args:
        generated: Embeddings of generated images [N, D].
        real: Embeddings of their photographs [N, D].
        groups: The photograph of each pair, of shape [N].
        seed: Seeds the folds and the swaps of the null.
        folds: Parts the photographs are divided into, at least 2.

    Raises:
        ValueError: If the shapes differ, a row is zero or not finite, or there are fewer photographs than folds.
    """
    unit_generated, unit_real = _unit_pairs(generated, real)
    numbers = _group_numbers(groups, len(generated))
    photograph_count = int(numbers.max()) + 1
    if not 2 <= folds <= photograph_count:
        raise ValueError(
            f"The number of folds must be between 2 and the number of photographs, {photograph_count}. Got {folds}."
        )
    features = torch.cat([unit_generated, unit_real]).cpu().numpy()
    swapped = np.random.default_rng(seed).random(len(numbers)) < 0.5
    is_generated = np.repeat([True, False], len(numbers))
    both = np.concatenate([numbers, numbers])
    return ProbeResult(
        auc=_held_out_auc(features, is_generated, both, seed, folds),
        null_auc=_held_out_auc(features, is_generated ^ np.concatenate([swapped, swapped]), both, seed, folds),
    )


def gap_report(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int
) -> dict[str, float]:
    """Returns all measures of the gap by name; cosines are means over pairs.

    Args:
        generated: Embeddings of generated images [N, D].
        real: Embeddings of their photographs [N, D].
        groups: The photograph of each pair, of shape [N].
        seed: Seeds the strangers, the folds and the null.

    Raises:
        ValueError: As in the single measures.
    """
    probe = probe_auc(generated, real, groups, seed=seed, folds=min(5, len(set(groups))))
    return {
        "paired_cosine": float(paired_cosine(generated, real).mean()),
        "random_cosine": float(random_cosine(generated, real, groups, seed=seed).mean()),
        "probe_auc": probe.auc,
        "probe_null_auc": probe.null_auc,
        "centroid_distance": centroid_distance(generated, real),
        "trace_generated": trace(generated),
        "trace_real": trace(real),
    }


def _held_out_auc(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int, folds: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splitter = GroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    aucs = []
    for train, test in splitter.split(features, labels, groups):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[train], labels[train])
        aucs.append(roc_auc_score(labels[test], probe.decision_function(features[test])))
    return float(np.mean(aucs))


def _derangement(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns a random permutation that sends no pair to its own group.

    With the groups lined up in random order, a rotation by at least the largest group, and by no more than what
    is left of the circle, leaves every group.
    """
    largest, count = int(np.bincount(numbers).max()), len(numbers)
    if 2 * largest > count:
        raise ValueError(
            f"No photograph may have more than half of the pairs, or some have no stranger. Got {largest} of {count}."
        )
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(count), rng.permutation(numbers.max() + 1)[numbers]))
    permutation = np.empty(count, dtype=np.int64)
    permutation[order] = np.roll(order, -int(rng.integers(largest, count - largest + 1)))
    return permutation


def _group_numbers(groups: Sequence[str] | np.ndarray, pair_count: int) -> np.ndarray:
    names = np.asarray(groups)
    if names.shape != (pair_count,):
        raise ValueError(f"There must be one group for each of the {pair_count} pairs. Got shape {list(names.shape)}.")
    return np.unique(names, return_inverse=True)[1]


def _unit_pairs(generated: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if generated.shape != real.shape:
        raise ValueError(
            "Pairs need generated and real embeddings of the same shape. "
            f"Got {list(generated.shape)} and {list(real.shape)} instead."
        )
    return _unit_rows(generated, "generated"), _unit_rows(real, "real")


def _unit_rows(embeddings: torch.Tensor, name: str) -> torch.Tensor:
    """Returns float64 rows of norm 1; means over many rows need more digits than float32 has."""
    if embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f"The {name} embeddings must have shape [N, D] and not be empty. Got {list(embeddings.shape)} instead."
        )
    rows = embeddings.detach().double()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unusable = ~(torch.isfinite(norms) & (norms > 0)).squeeze(1)
    if unusable.any():
        row = int(unusable.nonzero()[0])
        raise ValueError(
            f"The {name} embeddings must have rows with a finite norm above 0. "
            f"Got norm {float(norms[row])} at row {row} ({int(unusable.sum())} such rows)."
        )
    return rows / norms
