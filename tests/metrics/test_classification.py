"""Zero-shot classification against loops and hand-checked cases."""

import numpy as np
import pytest
import torch

from gmail_kedro.metrics.classification import classification_result, zero_shot_weights


def test_weights_equal_a_loop():
    templates = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0)) * 5
    weights = zero_shot_weights(templates)
    for row, of_class in zip(weights, templates, strict=True):
        mean = sum(template / template.norm() for template in of_class) / 3
        torch.testing.assert_close(row, mean / mean.norm())


def test_every_template_counts_the_same_whatever_its_norm():
    weights = zero_shot_weights(torch.tensor([[[100.0, 0.0], [0.0, 1.0]]]))
    torch.testing.assert_close(weights, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_weights_are_float32_unit_rows_also_from_half_precision():
    weights = zero_shot_weights(torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0)).half())
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(3))


def test_accuracy_and_mean_recall_by_hand():
    # Class 0 has three images, two correct; class 1 has one, wrong; class 2 has none.
    image = torch.eye(3)[[0, 0, 2, 0]]
    result = classification_result(image, torch.eye(3), torch.tensor([0, 0, 0, 1]))
    assert result.correct.tolist() == [True, True, False, False]
    assert result.predicted.tolist() == [0, 0, 2, 0]
    assert result.acc1 == 50.0
    assert result.mean_per_class_recall == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert result.scores() == {"acc1": result.acc1, "mean_per_class_recall": result.mean_per_class_recall}


def test_equal_classes_go_to_the_lower_index():
    weights = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(33, 1)
    image = torch.randn(65, 50, generator=torch.Generator().manual_seed(1))
    assert (classification_result(image, weights, torch.zeros(65, dtype=torch.int64)).predicted == 0).all()


def test_norms_do_not_matter():
    image = torch.tensor([[1.0, 0.2]])
    weights = torch.tensor([[1.0, 0.0], [100.0, 100.0]])
    assert classification_result(image, weights, torch.tensor([0])).acc1 == 100.0


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (torch.ones(2, 3), r"shape \[C, T, D\]"),
        (torch.tensor([[[1.0], [1.0]], [[1.0], [0.0]]]), "class 1, template 1"),
        (torch.tensor([[[1.0], [1.0]], [[1.0], [-1.0]]]), "mean class embeddings.*class 1"),
    ],
)
def test_unusable_templates_are_refused(templates, message):
    with pytest.raises(ValueError, match=message):
        zero_shot_weights(templates)


@pytest.mark.parametrize(
    ("image", "weights", "labels", "message"),
    [
        (torch.zeros(1, 2), torch.eye(2), torch.tensor([0]), "image embeddings.*row 0"),
        (torch.ones(1, 2), torch.zeros(2, 2), torch.tensor([0]), "class embeddings.*row 0"),
        (torch.ones(1, 3), torch.eye(2), torch.tensor([0]), "same width. Got 3 and 2"),
        (torch.ones(1, 2), torch.eye(2), torch.tensor([0, 1]), "one label for each of the 1 images"),
        (torch.ones(1, 2), torch.eye(2), torch.tensor([2]), "between 0 and 1. Got 2 for image 0"),
    ],
)
def test_wrong_values_are_refused(image, weights, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_result(image, weights, labels)


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="labels must be integers"):
        classification_result(torch.eye(2), torch.eye(2), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed):
    """Random embeddings with duplicates and unbalanced classes, some of them without an image."""
    from sklearn.metrics import accuracy_score, recall_score

    rng = torch.Generator().manual_seed(seed)
    image, weights = torch.randn(120, 6, generator=rng), torch.randn(9, 6, generator=rng)
    image[30:60] = image[0]
    labels = torch.randint(0, 9, (120,), generator=rng) // 2
    result = classification_result(image, weights, labels)
    truth = labels.numpy()
    assert result.acc1 == pytest.approx(100 * accuracy_score(truth, result.predicted))
    recall = recall_score(truth, result.predicted, average="macro", labels=np.unique(truth), zero_division=0)
    assert result.mean_per_class_recall == pytest.approx(100 * recall)
