"""What is common to classification sets: a corpus's own tasks from a file, the checks, and what may be trained on."""

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gmail_kedro.corpora.text_files import read_json
from gmail_kedro.interfaces import ClassificationTask, LabelledImages, TrainingSplits

VAL_FRACTION, SEED = 0.2, 0  # SynCLR's share of the training images where a set has no validation split of its own


def read_classification(path: Path) -> dict[str, ClassificationTask]:
    """Returns the tasks of a ``classification.json``, by name.

    The file holds ``{"tasks": {name: {"classes": [...], "templates": [...], "labels": {image_id: class index}}}}``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not of this layout; the message names the file, the task and what is wrong.
    """
    path = Path(path)
    content = read_json(path, what="classification file")
    tasks = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise ValueError(
            f"The classification file '{path}' must be an object with a non-empty object 'tasks'. "
            f"Got {_brief(content)} instead. See read_classification for the layout."
        )
    return {name: _read_task(task, f"Task {name!r} of '{path}'") for name, task in tasks.items()}


def check_set(found: LabelledImages) -> LabelledImages:
    """Returns a classification set once it can be measured on.

    Raises:
        ValueError: If it has fewer than two classes, no image, a label that is no class, or a template that does not
            have exactly one ``{}`` for the class name: every class would get the same prompt.
    """
    task, where = found.task, f"The classification set {found.name!r}"
    if len(task.classes) < 2:
        raise ValueError(f"{where} must have two classes or more. Got {list(task.classes)} instead.")
    if not task.labels:
        raise ValueError(f"{where} has no image to measure on. Complete it, or correct its catalog entry.")
    wrong = [template for template in task.templates if template.count("{}") != 1]
    if wrong or not task.templates:
        raise ValueError(f"{where} must have templates with one {{}} for the class name. Got {wrong[:1]}. Correct it.")
    _check_labels(task.labels, len(task.classes), where)
    return found


def with_val(labels: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    """Returns labels by split and image; where there is no ``val``, a fifth of ``train`` is drawn for it."""
    # The validation split chooses a probe's weight decay, which the test split must not.
    if "val" in labels:
        return dict(labels)
    keys = sorted(labels["train"])
    order = np.random.default_rng(SEED).permutation(len(keys))
    drawn = {keys[place] for place in order[: max(1, int(VAL_FRACTION * len(keys)))]}
    train, val = _divide(labels["train"], drawn)
    return {"train": train, "val": val}


def draw_from_each_class(labels: Mapping[str, int], count: int, *, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the labels of ``count`` images drawn from each class, and of all others; of each some must be left."""
    rng = np.random.default_rng(SEED)
    drawn: set[str] = set()
    members: dict[int, list[str]] = {}
    for key in sorted(labels):  # so that the draw does not depend on the order of the files
        members.setdefault(labels[key], []).append(key)
    for label, keys in sorted(members.items()):
        if len(keys) <= count:
            raise ValueError(
                f"The classification set {name!r} must have more than {count} images of each class, so that "
                f"{count} can be trained on. Got {len(keys)} of class {label}. Set a smaller train_per_class in its "
                "catalog entry, or complete the set."
            )
        drawn.update(keys[place] for place in rng.permutation(len(keys))[:count])
    rest, taken = _divide(labels, drawn)
    return taken, rest


def without_overlap(name: str, measured: Mapping[str, int], splits: TrainingSplits) -> TrainingSplits:
    """Returns training splits with a ``val``, once none of their images is measured on.

    Raises:
        ValueError: If an image is in both, or there is none to train on.
    """
    for split, labels in splits.labels.items():
        shared = sorted(labels.keys() & measured.keys())
        if shared or not labels:
            raise ValueError(
                f"The split {split!r} of the classification set {name!r} must have images, none of them among those "
                f"that are measured on. {len(shared)} of its {len(labels)} are, such as {shared[:1]}. Set listing and "
                "training_listing, or train_per_class, in its catalog entry."
            )
    return TrainingSplits(splits.images, with_val(splits.labels))


def _divide(labels: Mapping[str, int], drawn: set[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the labels of images that were not drawn, and of those that were."""
    return (
        {key: label for key, label in labels.items() if key not in drawn},
        {key: label for key, label in labels.items() if key in drawn},
    )


def _read_task(task: Any, where: str) -> ClassificationTask:
    absent = [key for key in ("classes", "templates", "labels") if not isinstance(task, dict) or key not in task]
    if absent:
        raise ValueError(f"{where} must have the keys classes, templates and labels. Missing: {absent}. Add them.")
    classes = _read_texts(task["classes"], f"{where}: 'classes'", at_least=2)
    templates = _read_texts(task["templates"], f"{where}: 'templates'", at_least=1)
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(
                f"{where}: each template must have one {{}} for the class name. Got {template!r} instead. Correct it."
            )
    labels = task["labels"]
    if not isinstance(labels, dict) or not labels:
        raise ValueError(
            f"{where}: 'labels' must map image ids to class indices, one or more. Got {_brief(labels)} instead."
        )
    _check_labels(labels, len(classes), where)
    return ClassificationTask(classes, templates, labels)


def _read_texts(texts: Any, where: str, *, at_least: int) -> tuple[str, ...]:
    is_usable = isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
    if not is_usable or len(texts) < at_least or len(set(texts)) != len(texts):
        raise ValueError(
            f"{where} must be a list of {at_least} or more different, non-blank strings. Got {_brief(texts)} instead."
        )
    return tuple(texts)


def _check_labels(labels: Mapping[str, Any], class_count: int, where: str) -> None:
    for image_id, label in labels.items():
        # Integral, not int: torchvision takes the cars' labels from a MATLAB file, as NumPy's integers.
        is_index = isinstance(label, Integral) and not isinstance(label, bool)
        if not is_index or not 0 <= label < class_count:
            raise ValueError(
                f"{where}: the label of image {image_id!r} must be a class index, 0 to {class_count - 1}. "
                f"Got {label!r} instead. Correct the label or add the class."
            )


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
