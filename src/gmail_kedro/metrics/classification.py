"""Zero-shot classification: one weight vector for each class, made from its prompts.

Cosines are exact (see ``cosine``), so the class that wins does not depend on the machine.
"""

from dataclasses import dataclass

import numpy as np
import torch

from gmail_kedro.metrics.cosine import check_rows, grid_rows


@dataclass(frozen=True)
class ClassificationResult:
    """What was predicted, and how often it was right."""

    correct: np.ndarray  # for each image whether its class was predicted, bool of shape [N]
    predicted: np.ndarray  # the predicted class of each image, int64 of shape [N]
    acc1: float  # share of images that are correct, in percent
    # mean over the classes that occur among the labels of the share of their images that are correct, in percent
    mean_per_class_recall: float

    def scores(self) -> dict[str, float]:
        """Returns ``acc1`` and ``mean_per_class_recall`` by name, in percent."""
        return {"acc1": self.acc1, "mean_per_class_recall": self.mean_per_class_recall}


def zero_shot_weights(template_embeddings: torch.Tensor) -> torch.Tensor:
    """Returns unit class weights, float32 [C, D]: the mean over templates of the unit text embeddings, re-normalised.

    Args:
        template_embeddings: Text embeddings of every class in every template, [C, T, D], any norm.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If the shape is not [C, T, D], an embedding is zero or not finite, or the templates of a
            class cancel out.
    """
    if template_embeddings.ndim != 3:
        raise ValueError(
            f"The template embeddings must have shape [C, T, D]. Got {list(template_embeddings.shape)} instead."
        )
    class_count, template_count, width = template_embeddings.shape
    flat = template_embeddings.reshape(class_count * template_count, width)
    check_rows(flat, "template", describe=lambda row: f"class {row // template_count}, template {row % template_count}")
    # eps=0: a short embedding has a direction too, and one of length 0 was refused above.
    unit = torch.nn.functional.normalize(template_embeddings.double(), dim=-1, eps=0)  # [C, T, D]
    weights = unit.mean(dim=1)  # [C, D]
    check_rows(weights, "mean class", describe=lambda row: f"class {row}")
    return torch.nn.functional.normalize(weights, dim=-1, eps=0).float()


def classification_result(
    image: torch.Tensor, class_weights: torch.Tensor, labels: torch.Tensor
) -> ClassificationResult:
    """Gives every image the class with the largest cosine, the lower class index in a tie.

    Example:
        >>> classification_result(torch.eye(2), torch.eye(2), torch.tensor([0, 1])).acc1
        100.0

    Args:
        image: Image embeddings [N, D], any norm.
        class_weights: One row for each class, [C, D], any norm.
        labels: The true class of each image, integers of shape [N] in [0, C).

    Raises:
        TypeError: If embeddings are not floating point or labels are not integer.
        ValueError: If a row is zero or not finite, shapes disagree, or a label is out of range.
    """
    check_rows(image, "image")
    check_rows(class_weights, "class")
    if image.shape[1] != class_weights.shape[1]:
        raise ValueError(
            "Image embeddings and class weights must have the same width. "
            f"Got {image.shape[1]} and {class_weights.shape[1]} instead."
        )
    truth = _check_labels(labels, len(image), len(class_weights))
    cosines = grid_rows(image) @ grid_rows(class_weights.to(image.device)).T  # [N, C]; of equal ones the first wins
    return result_of(cosines.argmax(dim=1).cpu().numpy(), truth)


def result_of(predicted: np.ndarray, truth: np.ndarray) -> ClassificationResult:
    """Counts what was right.

    Args:
        predicted: Class of each image, int64 [N], N at least 1.
        truth: True class of each image, int64 [N].
    """
    correct = predicted == truth
    recalls = [correct[truth == label].mean() for label in np.unique(truth)]  # a class without images has no recall
    return ClassificationResult(
        correct=correct,
        predicted=predicted,
        acc1=100.0 * float(correct.mean()),
        mean_per_class_recall=100.0 * float(np.mean(recalls)),
    )


def _check_labels(labels: torch.Tensor, image_count: int, class_count: int) -> np.ndarray:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"The labels must be integers. Got {labels.dtype} instead.")
    if list(labels.shape) != [image_count]:
        raise ValueError(
            f"There must be one label for each of the {image_count} images. Got shape {list(labels.shape)} instead."
        )
    truth = labels.cpu().numpy().astype(np.int64)
    outside = (truth < 0) | (truth >= class_count)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"The labels must be between 0 and {class_count - 1}. Got {truth[row]} for image {row}.")
    return truth
