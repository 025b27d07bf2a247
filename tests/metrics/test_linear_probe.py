"""The probe against scikit-learn used directly, and what it refuses."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gmail_kedro.metrics.linear_probe import WEIGHT_DECAYS, linear_probe

METRICS = ("acc1", "mean_per_class_recall")
ROWS = {"train": slice(0, 300), "val": slice(300, 450), "test": slice(450, 750)}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return {split: data.data[rows] for split, rows in ROWS.items()}, {
        split: data.target[rows] for split, rows in ROWS.items()
    }


def test_the_published_grid():
    assert len(WEIGHT_DECAYS) == 45
    assert (WEIGHT_DECAYS[0], WEIGHT_DECAYS[-1]) == pytest.approx((1e-6, 1e5))
    assert np.allclose(np.diff(np.log10(WEIGHT_DECAYS)), 0.25)


def test_equals_scikit_learn_by_hand(digits):
    features, labels = digits
    decays = (1e-2, 1.0, 1e2, 1e4)
    scaler = StandardScaler().fit(features["train"])
    sides = {split: scaler.transform(rows) for split, rows in features.items()}
    val = {
        decay: LogisticRegression(C=1 / decay, max_iter=500).fit(sides["train"], labels["train"])
        .score(sides["val"], labels["val"])
        for decay in decays
    }  # fmt: skip
    best = max(decays, key=lambda decay: (val[decay], decay))
    final = LogisticRegression(C=1 / best, max_iter=500).fit(
        np.concatenate([sides["train"], sides["val"]]), np.concatenate([labels["train"], labels["val"]])
    )
    probe = linear_probe(features, labels, weight_decays=decays)
    assert (probe.weight_decay, probe.val_score) == (best, pytest.approx(100 * val[best]))
    assert probe.result.acc1 == pytest.approx(100 * final.score(sides["test"], labels["test"]), abs=0.4)
    assert probe.result.acc1 > 85
    recalls = [np.mean(probe.result.predicted[labels["test"] == c] == c) for c in range(10)]
    assert probe.result.mean_per_class_recall == pytest.approx(100 * np.mean(recalls))


def test_a_constant_feature_and_a_class_seen_in_the_test_alone_do_no_harm(digits):
    features, labels = digits
    features = {split: np.hstack([rows, np.full((len(rows), 1), 5.0)]) for split, rows in features.items()}
    strange = labels | {"test": np.where(np.arange(300) < 10, 77, labels["test"])}
    probe = linear_probe(features, strange, weight_decays=(1.0,))
    assert not probe.result.correct[:10].any() and probe.result.correct[10:].mean() > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y: f.pop("val"), "The split 'val' has none"),
        (lambda f, y: f.update(test=f["test"][:0]), "The split 'test' has none"),
        (lambda f, y: f.update(val=f["val"][:9]), r"one label a row. Got \[9, 64\] and 150"),
        (lambda f, y: f.update(test=f["test"] * np.nan), "features of 'test' must be finite"),
        (lambda f, y: f.update(test=f["test"][:, :9]), r"same width. Got \[9, 64\]"),
        (lambda f, y: y.update(train=np.zeros(300, dtype=int)), "two classes or more"),
    ],
)
def test_wrong_input_is_refused(digits, change, message):
    features, labels = (dict(side) for side in digits)
    change(features, labels)
    with pytest.raises(ValueError, match=message):
        linear_probe(features, labels, weight_decays=(1.0,))


def test_a_weight_decay_of_zero_is_refused(digits):
    with pytest.raises(ValueError, match="weight decays must be positive"):
        linear_probe(*digits, weight_decays=(0.0, 1.0))


def test_the_weight_decay_is_chosen_by_the_metric_of_the_set(digits):
    features, labels = digits
    rare = {**labels, "val": np.where(labels["val"] > 1, 0, labels["val"])}  # of many zeros most are right in no fit
    probes = [linear_probe(features, rare, metric=metric, weight_decays=(1e-2, 1e4)) for metric in METRICS]
    scores = [probe.val_score for probe in probes]
    assert scores[0] != pytest.approx(scores[1])
