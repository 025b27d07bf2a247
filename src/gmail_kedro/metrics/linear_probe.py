"""A linear classifier on frozen features, by the protocol of SynCLR's linear transfer.

Features are standardised by the statistics of the training split; multinomial logistic regression is fitted by L-BFGS
for each of 45 weight decays from 1e-6 to 1e5, the best on the validation split is fitted again on training and
validation together, and the test split is met once.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gmail_kedro.metrics.classification import ClassificationResult, result_of

WEIGHT_DECAYS = tuple(float(value) for value in np.logspace(-6, 5, 45))
MAX_ITERATIONS = 500
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ProbeResult:
    """What the probe read off the test features."""

    result: ClassificationResult  # the test split's predictions and accuracies
    weight_decay: float  # the one chosen on the validation split, 1 / C in scikit-learn's terms
    val_score: float  # what it reached there of the metric it was chosen by, in percent


def linear_probe(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    metric: str = "acc1",
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    max_iterations: int = MAX_ITERATIONS,
) -> ProbeResult:
    """Trains the probe, chooses its weight decay on the validation split, and scores the test split once.

    Args:
        features: Frozen features of ``train``, ``val`` and ``test``, each [N, D].
        labels: The class of each row, integers, each [N].
        metric: By what the weight decay is chosen: ``acc1`` or ``mean_per_class_recall``.
        weight_decays: What is tried; among equals the largest wins.
        max_iterations: Of each fit.

    Raises:
        ValueError: If a split is absent or empty, lengths or widths differ, a feature is not finite, or the training
            split shows fewer than two classes.
    """
    _check(features, labels, weight_decays)
    mean = features["train"].mean(axis=0, dtype=np.float64)
    deviation = features["train"].std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)  # [D]; a feature that never varies stays 0
    sides = {split: (features[split] - mean) / scale for split in SPLITS}
    reached = {}
    for decay in weight_decays:
        predict = _fit(sides["train"], labels["train"], decay, max_iterations)
        reached[decay] = result_of(predict(sides["val"]), np.asarray(labels["val"])).scores()[metric]
    chosen = max(reached, key=lambda decay: (reached[decay], decay))
    both = [np.concatenate([side["train"], side["val"]]) for side in (sides, labels)]
    predict = _fit(both[0], both[1], chosen, max_iterations)
    result = result_of(predict(sides["test"]), np.asarray(labels["test"]))
    return ProbeResult(result, chosen, reached[chosen])


def _fit(
    features: np.ndarray, labels: np.ndarray, weight_decay: float, max_iterations: int
) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / weight_decay, solver="lbfgs", max_iter=max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # to stop after MAX_ITERATIONS is the protocol
        return model.fit(features, labels).predict


def _check(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], weight_decays: Sequence[float]
) -> None:
    widths = set()
    for split in SPLITS:
        if split not in features or split not in labels or len(features[split]) == 0:
            raise ValueError(
                f"A linear probe needs features and labels of {list(SPLITS)}. The split {split!r} has none"
            )
        if features[split].ndim != 2 or len(features[split]) != len(labels[split]):
            raise ValueError(
                f"The features of {split!r} must have shape [N, D] with one label a row. Got "
                f"{list(features[split].shape)} and {len(labels[split])} labels."
            )
        if not np.isfinite(features[split]).all():
            raise ValueError(f"The features of {split!r} must be finite. They hold an infinite or missing value.")
        widths.add(features[split].shape[1])
    if len(widths) > 1:
        raise ValueError(f"The features of all splits must have the same width. Got {sorted(widths)}.")
    if len(np.unique(labels["train"])) < 2:
        raise ValueError("A linear probe needs two classes or more among the training labels. Got one.")
    if not weight_decays or min(weight_decays) <= 0:
        raise ValueError(f"The weight decays must be positive and not empty. Got {list(weight_decays)[:3]}.")
