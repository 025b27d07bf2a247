"""Reads zero-shot classification tasks: class names, prompt templates and labels by image id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmail_kedro.corpora.json_files import read_json
from gmail_kedro.interfaces import ClassificationTask


def read_classification(path: Path) -> dict[str, ClassificationTask]:
    """Returns the tasks of a ``classification.json``, by name.

    The file holds ``{"tasks": {name: {"classes": [...], "templates": [...], "labels": {image_id: class index}}}}``.

    Args:
        path: The file.

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
    return ClassificationTask(classes, templates, _read_labels(task["labels"], len(classes), where))


def _read_texts(texts: Any, where: str, *, at_least: int) -> tuple[str, ...]:
    is_usable = isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
    if not is_usable or len(texts) < at_least or len(set(texts)) != len(texts):
        raise ValueError(
            f"{where} must be a list of {at_least} or more different, non-blank strings. Got {_brief(texts)} instead."
        )
    return tuple(texts)


def _read_labels(labels: Any, class_count: int, where: str) -> Mapping[str, int]:
    if not isinstance(labels, dict) or not labels:
        raise ValueError(
            f"{where}: 'labels' must map image ids to class indices, one or more. Got {_brief(labels)} instead."
        )
    for image_id, label in labels.items():
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < class_count:
            raise ValueError(
                f"{where}: the label of image {image_id!r} must be a class index, 0 to {class_count - 1}. "
                f"Got {label!r} instead. Correct the label or add the class."
            )
    return labels


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
