"""Reads classification sets as WebDataset copies, in the layout of CLIP_benchmark's tars on the hub."""

import glob
from pathlib import Path

import numpy as np
import pyarrow as pa

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.tar_index import index_tar
from gmail_kedro.corpora.tree import require_file
from gmail_kedro.corpora.webdataset import TarImages
from gmail_kedro.interfaces import ClassificationTask, LabelledImages

CLASSES_FILE, TEMPLATES_FILE = "classnames.txt", "zero_shot_classification_templates.txt"


def read_class_tars(folder: Path, *, name: str, metric: str, split: str = "test") -> LabelledImages:
    """Returns a set whose tars hold ``key.jpg`` (or webp, png) and ``key.cls`` with the class's number.

    Args:
        folder: Holds ``classnames.txt`` and ``zero_shot_classification_templates.txt``, a line for each class and
            template, and ``split/*.tar``.
        name: What reports and messages call the set.
        metric: ``acc1`` or ``mean_per_class_recall``.
        split: The tars' folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a tar is cut off, a sample has no picture or no class, or a class is unknown: a benchmark is
            whole or it is refused.
    """
    folder = Path(folder)
    classes, templates = (_lines(folder / file, name) for file in (CLASSES_FILE, TEMPLATES_FILE))
    templates = tuple(template.replace("{c}", "{}") for template in templates)
    pattern = folder / split / "*.tar"
    tars = [Path(path) for path in sorted(glob.glob(str(pattern)))]
    if not tars:
        require_file(pattern, name=name, home="")
    keys: list[str] = []
    labels: list[int] = []
    places: list[tuple[int, int, int]] = []
    for number, tar in enumerate(tars):
        found = index_tar(tar, text_extension="cls")
        _refuse_loss(tar, found.fault, found.skipped, name)
        keys += [f"{tar.stem}/{key}" for key in found.keys]
        texts = zip(found.keys, found.captions, strict=True)
        labels += [_label(text, len(classes), f"{tar}:{key}") for key, text in texts]
        places += [(number, *place) for place in zip(found.offsets, found.sizes, strict=True)]
    table = np.array(places, dtype=np.uint64).reshape(-1, 3)
    images = TarImages(tars, pa.array(keys, pa.large_string()), table[:, 0], table[:, 1], table[:, 2])
    task = ClassificationTask(classes, templates, dict(zip(keys, labels, strict=True)))
    return LabelledImages(name, images, task, metric)


def _lines(path: Path, name: str) -> tuple[str, ...]:
    text = require_file(path, name=name, home="").read_text(encoding="utf-8-sig")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _refuse_loss(tar: Path, fault: str | None, skipped: Skipped, name: str) -> None:
    if fault is not None or skipped.counts:
        raise ValueError(
            f"The tar '{tar}' of the classification set {name!r} is not whole: {fault or dict(skipped.summary)}. "
            "Fetch it again; a part of a benchmark gives no score."
        )


def _label(text: bytes, class_count: int, where: str) -> int:
    try:
        label = int(text)
    except ValueError:
        label = -1
    if not 0 <= label < class_count:
        raise ValueError(f"The class of {where} must be a number, 0 to {class_count - 1}. Got {text[:20]!r} instead.")
    return label
