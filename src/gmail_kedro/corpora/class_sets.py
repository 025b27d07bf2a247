"""Reads the eight classification sets of the paper as they lie on disk, through torchvision where it knows them.

Nothing is downloaded: torchvision is asked for files and labels only, and no picture is opened. Templates, and class
names that differ from the files', are CLIP's (``prompts/``).
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gmail_kedro.corpora.tree import TreeImages, require_file
from gmail_kedro.interfaces import ClassificationTask, LabelledImages

PROMPTS = Path(__file__).with_name("prompts")
ACC1, MEAN_PER_CLASS = "acc1", "mean_per_class_recall"
Labelled = tuple[list[tuple[Path, int]], Sequence[str]]


@dataclass(frozen=True)
class ClassSet:
    """One of the sets.

    Attributes:
        dataset: torchvision's class, by name.
        options: What it is asked for: the split and the like.
        metric: What the CLIP paper reports on it.
        classes: How many classes it must have.
        images: How many pictures it must have.
        folder: Where it lies below the root.
        home: Where it comes from, for messages.
        takes_loader: Whether torchvision lets the files be named without opening them.
    """

    dataset: str
    options: Mapping[str, Any]
    metric: str
    classes: int
    images: int
    folder: str
    home: str
    takes_loader: bool = True


_TEST: Mapping[str, Any] = MappingProxyType({"split": "test"})

CLASS_SETS: Mapping[str, ClassSet] = MappingProxyType(
    {
        "dtd": ClassSet(
            "DTD", {"split": "test", "partition": 1}, ACC1, 47, 1_880, "dtd/dtd", "robots.ox.ac.uk/~vgg/data/dtd"
        ),
        "stanford_cars": ClassSet(
            "StanfordCars", _TEST, ACC1, 196, 8_041, "stanford_cars",
            "a mirror on Kaggle or the hub (the original download is closed): cars_test, devkit and "
            "cars_test_annos_withlabels.mat",
        ),
        "sun397": ClassSet("SUN397", {}, ACC1, 397, 108_754, "SUN397", "vision.princeton.edu/projects/2010/SUN"),
        "food101": ClassSet(
            "Food101", _TEST, ACC1, 101, 25_250, "food-101", "data.vision.ee.ethz.ch/cvl/food-101.tar.gz"
        ),
        "fgvc_aircraft": ClassSet(
            "FGVCAircraft", {"split": "test", "annotation_level": "variant"}, MEAN_PER_CLASS, 100, 3_333,
            "fgvc-aircraft-2013b", "robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
        ),
        "oxford_pets": ClassSet(
            "OxfordIIITPet", _TEST, MEAN_PER_CLASS, 37, 3_669, "oxford-iiit-pet", "robots.ox.ac.uk/~vgg/data/pets",
            takes_loader=False,
        ),
        "caltech101": ClassSet(
            "Caltech101", {}, MEAN_PER_CLASS, 101, 8_677, "caltech101/101_ObjectCategories",
            "data.caltech.edu/records/mzrjq-6wc02 (101_ObjectCategories and Annotations)", takes_loader=False,
        ),
        "imagenet": ClassSet(
            "ImageFolder", {}, ACC1, 1_000, 50_000, "val",
            "image-net.org (ILSVRC2012_img_val.tar, its pictures sorted into a folder for each WordNet id)",
        ),
    }
)  # fmt: skip


def read_class_set(name: str, root: Path, *, listing: Path | None = None, check_counts: bool = True) -> LabelledImages:
    """Returns one of the sets, its pictures called by their path below the root.

    Args:
        name: A key of ``CLASS_SETS``.
        root: The folder that torchvision calls root: the set's own folder lies in it.
        listing: A file with one picture a line that the set is cut down to, such as SUN397's ``Testing_01.txt``.
        check_counts: Hold the set to its number of classes and, without a listing, of pictures.

    Raises:
        FileNotFoundError: If the set is not there; the message says where it comes from.
        ValueError: If the name is unknown, the set is damaged, or a count differs.
    """
    if name not in CLASS_SETS:
        raise ValueError(f"The classification set {name!r} is unknown. Choose one of {sorted(CLASS_SETS)}.")
    spec, root = CLASS_SETS[name], Path(root)
    samples, files_classes = _labelled(name, spec, root)
    samples = sorted(samples)
    if listing is not None:
        samples = _listed(samples, require_file(listing, name=name, home=spec.home), name)
    if check_counts:
        _check_count(name, "classes", spec.classes, len(files_classes))
        if listing is None:
            _check_count(name, "pictures", spec.images, len(samples))
    labels = {path.relative_to(root).as_posix(): label for path, label in samples}
    task = ClassificationTask(class_names(name, files_classes), tuple(_prompts("templates")[name]), labels)
    return LabelledImages(name, TreeImages(root), task, spec.metric)


def class_names(name: str, files_classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that go into the templates.

    Args:
        name: A key of ``CLASS_SETS``.
        files_classes: The names as the files have them; ImageNet's are replaced by CLIP's, which have the same order.
    """
    if name == "imagenet" and len(files_classes) == CLASS_SETS[name].classes:
        return tuple(_prompts("imagenet_classes"))
    renamed = _prompts("renamed_classes").get(name, {})
    names = (renamed.get(written, written.replace("_", " ")) for written in files_classes)
    return tuple(name_.replace("/", " ") if name == "sun397" else name_ for name_ in names)  # apse/indoor, not F/A-18


def _labelled(name: str, spec: ClassSet, root: Path) -> Labelled:
    from torchvision import datasets

    if not (root / spec.folder).is_dir():
        raise FileNotFoundError(
            f"The classification set {name!r} should be the folder '{(root / spec.folder).absolute()}', which does not "
            f"exist. Put it there, or correct the root in conf/*/catalog*.yml. It comes from: {spec.home}."
        )
    loader: dict[str, Callable[[Any], Path]] = {"loader": Path} if spec.takes_loader else {}
    try:
        at = root / spec.folder if spec.dataset == "ImageFolder" else root
        dataset = getattr(datasets, spec.dataset)(root=str(at), **spec.options, **loader)
        samples = list(map(dataset.__getitem__, range(len(dataset)))) if spec.takes_loader else _without_loader(dataset)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"The classification set {name!r} in '{root.absolute()}' cannot be read: {error} "
            f"Complete it from: {spec.home}."
        ) from error
    classes = getattr(dataset, "classes", None) or dataset.categories
    return samples, [entry if isinstance(entry, str) else entry[0] for entry in classes]


def _without_loader(dataset: Any) -> list[tuple[Path, int]]:
    """Returns files and labels of the two classes that would open every picture to name it."""
    if hasattr(dataset, "categories"):
        folder = Path(dataset.root) / "101_ObjectCategories"
        rows = zip(dataset.y, dataset.index, strict=True)
        return [(folder / dataset.categories[label] / f"image_{number:04d}.jpg", label) for label, number in rows]
    return list(zip(dataset._images, dataset._labels, strict=True))


def _listed(samples: list[tuple[Path, int]], listing: Path, name: str) -> list[tuple[Path, int]]:
    wanted = [line.strip().lstrip("/") for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    depths = Counter(line.count("/") + 1 for line in wanted)
    known = {"/".join(path.parts[-depth:]): (path, label) for path, label in samples for depth in depths}
    absent = [line for line in wanted if line not in known]
    if absent or not wanted:
        raise ValueError(
            f"The listing '{listing}' must name pictures of {name!r}. {len(absent)} of its {len(wanted)} lines do not, "
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
