"""Divides labelled pictures into what is trained on and what is measured on, and checks what came of it."""

from collections.abc import Mapping

import numpy as np

from gmail_kedro.interfaces import LabelledImages, TrainingSplits

VAL_FRACTION, SEED = 0.2, 0  # SynCLR's share of the training pictures where a set has no validation split of its own


def check_set(found: LabelledImages) -> LabelledImages:
    """Returns a classification set once it can be measured on.

    Args:
        found: The set.

    Raises:
        ValueError: If it has fewer than two classes, no picture, a label that is no class, or a template that does not
            have exactly one ``{}`` for the class name: every class would get the same prompt.
    """
    task, where = found.task, f"The classification set {found.name!r}"
    if len(task.classes) < 2:
        raise ValueError(f"{where} must have two classes or more. Got {list(task.classes)} instead.")
    if not task.labels:
        raise ValueError(f"{where} has no picture to measure on. Complete it, or correct its catalog entry.")
    wrong = [template for template in task.templates if template.count("{}") != 1]
    if wrong or not task.templates:
        raise ValueError(f"{where} must have templates with one {{}} for the class name. Got {wrong[:1]}. Correct it.")
    _check_labels(where, task.labels, len(task.classes))
    return found


def _check_labels(where: str, labels: Mapping[str, int], class_count: int) -> None:
    for key, label in labels.items():
        if not 0 <= label < class_count:
            raise ValueError(
                f"{where}: the label of the picture {key!r} must be a class index, 0 to {class_count - 1}. "
                f"Got {label!r} instead. Correct the label or add the class."
            )


def with_val(labels: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    """Returns labels of ``train`` and ``val``; where there is no ``val``, a fifth of ``train`` is drawn for it.

    Args:
        labels: By split and picture.
    """
    if "val" in labels:
        return dict(labels)
    keys = sorted(labels["train"])
    order = np.random.default_rng(SEED).permutation(len(keys))
    drawn = {keys[place] for place in order[: max(1, int(VAL_FRACTION * len(keys)))]}
    return {
        "train": {key: label for key, label in labels["train"].items() if key not in drawn},
        "val": {key: label for key, label in labels["train"].items() if key in drawn},
    }


def draw_from_each_class(labels: Mapping[str, int], count: int, *, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the labels of pictures drawn from each class, and of all others.

    Args:
        labels: By picture.
        count: How many of each class are drawn.
        name: What messages call the set.

    Raises:
        ValueError: If nothing would be left of a class.
    """
    rng = np.random.default_rng(SEED)
    drawn: set[str] = set()
    members: dict[int, list[str]] = {}
    for key in sorted(labels):
        members.setdefault(labels[key], []).append(key)
    for label, keys in sorted(members.items()):
        if len(keys) <= count:
            raise ValueError(
                f"The classification set {name!r} must have more than {count} pictures of each class, so that "
                f"{count} can be trained on. Got {len(keys)} of class {label}. Set a smaller train_per_class in its "
                "catalog entry, or complete the set."
            )
        drawn.update(keys[place] for place in rng.permutation(len(keys))[:count])
    return (
        {key: label for key, label in labels.items() if key in drawn},
        {key: label for key, label in labels.items() if key not in drawn},
    )


def without_overlap(name: str, measured: Mapping[str, int], splits: TrainingSplits) -> TrainingSplits:
    """Returns training splits with a ``val``, once none of their pictures is measured on.

    Args:
        name: What messages call the set.
        measured: Labels of what is measured on, by picture.
        splits: At least ``train``.

    Raises:
        ValueError: If a picture is in both, or there is none to train on.
    """
    for split, labels in splits.labels.items():
        shared = sorted(labels.keys() & measured.keys())
        if shared or not labels:
            raise ValueError(
                f"The split {split!r} of the classification set {name!r} must have pictures, none of them among those "
                f"that are measured on. {len(shared)} of its {len(labels)} are, such as {shared[:1]}. Set listing and "
                "training_listing, or train_per_class, in its catalog entry."
            )
    return TrainingSplits(splits.images, with_val(splits.labels))
