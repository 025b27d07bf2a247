"""Reads classification sets as WebDataset copies, in the layout of CLIP_benchmark's tars on the hub."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from gmail_kedro.corpora.classification_tasks import check_set, without_overlap
from gmail_kedro.corpora.find_files import require_file
from gmail_kedro.corpora.tar_index import TarImages, TarIndex, find_tars, index_tar
from gmail_kedro.corpora.text_files import MARK, read_text
from gmail_kedro.interfaces import ClassificationTask, LabelledImages, TrainingSplits

CLASSES_FILE, TEMPLATES_FILE = "classnames.txt", "zero_shot_classification_templates.txt"
COUNT_FILE = "nshards.txt"
TEST, TRAIN = "test", "train"


def read_class_tars(folder: Path, *, name: str, metric: str) -> LabelledImages:
    """Returns a set whose tars hold ``key.jpg`` (or another image) and ``key.cls`` with the class's number.

    Args:
        folder: Holds ``classnames.txt`` and ``zero_shot_classification_templates.txt``, a line for each class and
            template, ``test/*.tar`` and, for what is trained on, ``train/*.tar``; where ``nshards.txt`` lies with
            them it is held to.
        name: What reports and messages call the set.
        metric: ``acc1`` or ``mean_per_class_recall``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a tar is cut off, a sample has no image or no class, or a class is unknown: a benchmark is
            whole or it is refused.
    """
    folder = Path(folder)
    classes, templates = (_lines(folder / file, name) for file in (CLASSES_FILE, TEMPLATES_FILE))
    # CLIP_benchmark writes {c} where open_clip's templates, and ours, have {}.
    templates = tuple(template.replace("{c}", "{}") for template in templates)
    images, labels = _read_split(folder / TEST, name, len(classes), prefix="")

    def read_training() -> TrainingSplits:
        # The tars of both splits are called 0.tar, 1.tar, ...: without the prefix their images would seem measured.
        source, trained = _read_split(folder / TRAIN, name, len(classes), prefix=f"{TRAIN}/")
        return without_overlap(name, labels, TrainingSplits(source, {TRAIN: trained}))

    task = ClassificationTask(classes, templates, labels)
    return check_set(LabelledImages(name, images, task, metric, cache(read_training)))


def _read_split(folder: Path, name: str, class_count: int, *, prefix: str) -> tuple[TarImages, dict[str, int]]:
    """Returns the images of all tars of a folder, and their labels by ``tar/key`` behind the prefix."""
    tars = find_tars(folder / "*.tar", name=name, home="")
    _refuse_missing(tars, folder / COUNT_FILE, name)
    labels: dict[str, int] = {}
    places: list[tuple[int, int, int]] = []
    for number, tar in enumerate(tars):
        found = index_tar(tar, text_ending="cls")
        _refuse_loss(tar, found, name)
        for key, text, offset, size in found.samples:
            labels[f"{prefix}{tar.stem}/{key}"] = _label(text, class_count, f"{tar}:{key}")
            places.append((number, offset, size))
    table = np.array(places, dtype=np.uint64)  # [N, 3]
    return TarImages(tars, pa.array(list(labels), pa.large_string()), table[:, 0], table[:, 1], table[:, 2]), labels


def _lines(path: Path, name: str) -> tuple[str, ...]:
    text = read_text(require_file(path, name=name, home=""), what=f"file of the classification set {name!r}")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _refuse_missing(tars: list[Path], count_file: Path, name: str) -> None:
    """Refuses a folder that has fewer tars, or more, than were published in it."""
    published = read_text(count_file, what="count of tars").strip() if count_file.is_file() else str(len(tars))
    if published != str(len(tars)):
        raise ValueError(
            f"The folder '{count_file.parent}' of the classification set {name!r} must have {published} tars, as its "
            f"{COUNT_FILE} says. Got {len(tars)} instead. Fetch the others; a part of a benchmark gives no score."
        )


def _refuse_loss(tar: Path, found: TarIndex, name: str) -> None:
    if found.fault is not None or found.skipped.counts or not found.samples:
        fault = found.fault or found.skipped.summary or "it has no image"
        raise ValueError(
            f"The tar '{tar}' of the classification set {name!r} is not whole: {fault}. "
            "Fetch it again; a part of a benchmark gives no score."
        )


def _label(text: bytes, class_count: int, where: str) -> int:
    number = text.removeprefix(MARK).strip()
    label = int(number) if number.isdigit() else -1
    if not 0 <= label < class_count:
        raise ValueError(f"The class of {where} must be a number, 0 to {class_count - 1}. Got {text[:20]!r} instead.")
    return label
