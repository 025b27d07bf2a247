"""Reads the eight classification sets of the paper: what is measured on, and what may be trained on.

Templates, and class names that differ from the files', are CLIP's (``prompts/``): scores of others are not comparable.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gmail_kedro.corpora.classification_tasks import check_set, draw_from_each_class, without_overlap
from gmail_kedro.corpora.find_files import require_file
from gmail_kedro.corpora.text_files import read_text
from gmail_kedro.corpora.torchvision_sets import CLASS_SETS, Part, Samples, read_part
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.interfaces import ClassificationTask, LabelledImages, TrainingSplits

__all__ = ["CLASS_SETS", "Division", "class_names", "read_class_set"]

PROMPTS = Path(__file__).with_name("prompts")


@dataclass(frozen=True)
class Division:
    """What divides a set that torchvision knows no splits of."""

    listing: Path | None = None  # of what is measured on, an image a line, such as SUN397's Testing_01.txt
    training_listing: Path | None = None  # of what is trained on, such as Training_01.txt
    train_per_class: int | None = None  # in place of both, as on Caltech101: the others are measured on


WHOLE = Division()


def read_class_set(name: str, root: Path, *, division: Division = WHOLE, check_counts: bool = True) -> LabelledImages:
    """Returns one of the sets, its images called by their path below the root.

    Args:
        name: A key of ``CLASS_SETS``.
        root: The folder that torchvision calls root: the set's own folder lies in it.
        division: What is measured on and what is trained on, where that is not torchvision's to say.
        check_counts: Hold the set to its number of classes and, without a listing, of images.

    Raises:
        FileNotFoundError: If the set is not there; the message says where it comes from.
        ValueError: If the name is unknown, the set is damaged, or a count differs.
    """
    if name not in CLASS_SETS:
        raise ValueError(f"The classification set {name!r} is unknown. Choose one of {sorted(CLASS_SETS)}.")
    spec, root = CLASS_SETS[name], Path(root)
    samples, files_classes = read_part(name, root, spec.test)
    listed = samples if division.listing is None else _listed(samples, division.listing, name)
    if check_counts:
        _check_count(name, "classes", spec.classes, len(files_classes))
        if division.listing is None:
            _check_count(name, "images", spec.test.images, len(samples))
    labels, drawn = _by_key(listed, root), None
    if division.train_per_class is not None:
        drawn, labels = draw_from_each_class(labels, division.train_per_class, name=name)
    task = ClassificationTask(class_names(name, files_classes), tuple(_prompts("templates")[name]), labels)

    def read_training() -> TrainingSplits:
        # Read when asked for: zero-shot runs need not have the training files, and ImageNet's are 1.3 million.
        if drawn is not None:
            splits = {"train": drawn}
        elif division.training_listing is not None:
            splits = {"train": _by_key(_listed(samples, division.training_listing, name), root)}
        else:
            splits = _read_own_training(name, root, files_classes, check_counts=check_counts)
        return without_overlap(name, labels, TrainingSplits(ImageFiles(root), splits))

    return check_set(LabelledImages(name, ImageFiles(root), task, spec.metric, cache(read_training)))


def class_names(name: str, files_classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that go into the templates, given those that the files have.

    ImageNet's are replaced by CLIP's, which have the same order.
    """
    if name == "imagenet" and len(files_classes) == CLASS_SETS[name].classes:
        return tuple(_prompts("imagenet_classes"))
    renamed = _prompts("renamed_classes").get(name, {})
    names = (renamed.get(written, written.replace("_", " ")) for written in files_classes)
    return tuple(name_.replace("/", " ") if name == "sun397" else name_ for name_ in names)  # apse/indoor, not F/A-18


def _read_own_training(
    name: str, root: Path, files_classes: Sequence[str], *, check_counts: bool
) -> dict[str, dict[str, int]]:
    """Returns the labels of a set's own training splits."""
    parts = CLASS_SETS[name].training
    if not parts:
        raise ValueError(
            f"The classification set {name!r} comes without a training split. Name one in its catalog entry: "
            "listing with training_listing, or train_per_class."
        )
    return {split: _read_split(name, root, part, files_classes, check_counts) for split, part in parts.items()}


def _read_split(name: str, root: Path, part: Part, files_classes: Sequence[str], check_counts: bool) -> dict[str, int]:
    samples, classes = read_part(name, root, part)
    # Labels are places in a sorted list of folders: one folder more in train, and all classes after it move.
    if list(classes) != list(files_classes):
        apart = sorted(set(classes) ^ set(files_classes))
        raise ValueError(
            f"The classification set {name!r} must have the same classes in all splits. {apart[:3]} are in one only, "
            f"of {len(apart)}. Complete it from: {CLASS_SETS[name].home}."
        )
    if check_counts:
        _check_count(name, "training images", part.images, len(samples))
    return _by_key(samples, root)


def _by_key(samples: Samples, root: Path) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): label for path, label in samples}


def _listed(samples: Samples, listing: Path, name: str) -> Samples:
    listing = require_file(listing, name=name, home=CLASS_SETS[name].home)
    lines = read_text(listing, what=f"listing of {name!r}").splitlines()
    wanted = [line.strip().lstrip("/") for line in lines if line.strip()]
    # SUN397's lines have three folders, /a/abbey/sun_x.jpg, other listings one: as many parts are compared.
    depths = Counter(line.count("/") + 1 for line in wanted)
    known = {"/".join(path.parts[-depth:]): (path, label) for path, label in samples for depth in depths}
    absent = [line for line in wanted if line not in known]
    if absent or not wanted:
        raise ValueError(
            f"The listing '{listing}' must name images of {name!r}. {len(absent)} of its {len(wanted)} lines do not, "
            f"such as {absent[:1]}. Complete the set or choose its own listing."
        )
    return [known[line] for line in wanted]


def _check_count(name: str, what: str, expected: int, found: int) -> None:
    if found != expected:
        raise ValueError(
            f"The classification set {name!r} must have {expected} {what}. Got {found} instead. Complete it, or, for a "
            "part of it, set check_counts: false in its catalog entry."
        )


def _prompts(name: str) -> Any:
    return json.loads((PROMPTS / f"{name}.json").read_text(encoding="utf-8"))
