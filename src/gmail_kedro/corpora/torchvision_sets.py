"""The eight classification sets of the paper as they lie on disk, read through torchvision.

Nothing is downloaded, and no image is opened: torchvision's classes are asked for files and labels only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gmail_kedro.images.decoding import IMAGE_ENDINGS, UNREAD_ENDINGS, file_ending, unread_format

ACC1, MEAN_PER_CLASS = "acc1", "mean_per_class_recall"
Samples = list[tuple[Path, int]]


@dataclass(frozen=True)
class Part:
    """One split of a set."""

    options: Mapping[str, Any]  # what torchvision's class is asked for
    images: int  # how many it must have
    folder: str = ""  # where it lies below the root, if not with the others


@dataclass(frozen=True)
class ClassSet:
    """One of the sets."""

    dataset: str  # torchvision's class, by name
    test: Part  # what is measured on
    metric: str  # what the CLIP paper reports on it
    classes: int  # how many it must have
    folder: str  # where it lies below the root
    home: str  # where it comes from, for messages
    training: Mapping[str, Part] = field(default_factory=dict)  # its own train and val; empty where it has none
    takes_loader: bool = True  # whether torchvision lets the files be named without opening them


def _part(images: int, split: str, **options: Any) -> Part:
    return Part({"split": split, **options}, images)


CLASS_SETS: Mapping[str, ClassSet] = MappingProxyType(
    {
        "dtd": ClassSet(
            "DTD", _part(1_880, "test", partition=1), ACC1, 47, "dtd/dtd", "robots.ox.ac.uk/~vgg/data/dtd",
            {split: _part(1_880, split, partition=1) for split in ("train", "val")},
        ),
        "stanford_cars": ClassSet(
            "StanfordCars", _part(8_041, "test"), ACC1, 196, "stanford_cars",
            "a mirror on Kaggle or the hub (the original download is closed): cars_test, devkit and "
            "cars_test_annos_withlabels.mat; cars_train for what is trained on",
            {"train": _part(8_144, "train")},
        ),
        "sun397": ClassSet(
            "SUN397", Part({}, 108_754), ACC1, 397, "SUN397",
            "vision.princeton.edu/projects/2010/SUN (SUN397.tar.gz, and Partitions.zip for its listings)",
        ),
        "food101": ClassSet(
            "Food101", _part(25_250, "test"), ACC1, 101, "food-101", "data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            {"train": _part(75_750, "train")},
        ),
        "fgvc_aircraft": ClassSet(
            "FGVCAircraft", _part(3_333, "test", annotation_level="variant"), MEAN_PER_CLASS, 100,
            "fgvc-aircraft-2013b", "robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
            {
                "train": _part(3_334, "train", annotation_level="variant"),
                "val": _part(3_333, "val", annotation_level="variant"),
            },
        ),
        "oxford_pets": ClassSet(
            "OxfordIIITPet", _part(3_669, "test"), MEAN_PER_CLASS, 37, "oxford-iiit-pet",
            "robots.ox.ac.uk/~vgg/data/pets", {"train": _part(3_680, "trainval")}, takes_loader=False,
        ),
        "caltech101": ClassSet(
            "Caltech101", Part({}, 8_677), MEAN_PER_CLASS, 101, "caltech101/101_ObjectCategories",
            "data.caltech.edu/records/mzrjq-6wc02 (101_ObjectCategories and Annotations)", takes_loader=False,
        ),
        "imagenet": ClassSet(
            "ImageFolder", Part({}, 50_000), ACC1, 1_000, "val",
            "image-net.org (ILSVRC2012_img_val.tar, its images sorted into a folder for each WordNet id; "
            "ILSVRC2012_img_train.tar, unpacked in the same way, for what is trained on)",
            {"train": Part({}, 1_281_167, folder="train")},
        ),
    }
)  # fmt: skip


def read_part(name: str, root: Path, part: Part) -> tuple[Samples, list[str]]:
    """Returns the files and labels of one split, sorted, and the names of the classes as the files have them.

    Raises:
        FileNotFoundError: If the set is not below the root; the message says where it comes from.
        ValueError: If it is damaged.
    """
    from torchvision import datasets

    spec = CLASS_SETS[name]
    folder = root / (part.folder or spec.folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The classification set {name!r} should be the folder '{folder.absolute()}', which does not "
            f"exist. Put it there, or correct the root in conf/*/catalog*.yml. It comes from: {spec.home}."
        )
    # A loader that returns the path: a sample is then its file's name, and nothing is decoded.
    options: dict[str, Any] = dict(part.options) | ({"loader": Path} if spec.takes_loader else {})
    at = root
    if spec.dataset == "ImageFolder":  # it has endings of its own, and leaves out the others without a word
        at, options["is_valid_file"] = folder, _is_image
    try:
        dataset = getattr(datasets, spec.dataset)(root=str(at), **options)
        samples = list(map(dataset.__getitem__, range(len(dataset)))) if spec.takes_loader else _without_loader(dataset)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"The classification set {name!r} in '{root.absolute()}' cannot be read: {error} "
            f"Complete it from: {spec.home}."
        ) from error
    _refuse_repeated(name, [path for path, _ in samples])
    classes = getattr(dataset, "classes", None) or dataset.categories
    # ImageNet's classes are tuples of synonyms, the first of which is the name.
    return sorted(samples), [entry if isinstance(entry, str) else entry[0] for entry in classes]


def _is_image(path: str) -> bool:
    if (ending := file_ending(path)) in UNREAD_ENDINGS:
        raise ValueError(f"'{path}' is an {unread_format(ending)}. Convert it.")
    return ending in IMAGE_ENDINGS


def _refuse_repeated(name: str, paths: Sequence[Path]) -> None:
    """Refuses a set in which a link gives a folder, and so its images, another name."""
    places: dict[Path, Path] = {}
    for folder in dict.fromkeys(path.parent for path in paths):
        known = places.setdefault(folder.resolve(), folder)
        if known != folder:
            raise ValueError(
                f"The classification set {name!r} must have every image once, but '{folder}' and '{known}' are one "
                "folder. Remove the link."
            )


def _without_loader(dataset: Any) -> Samples:
    """Returns files and labels of the two classes that would open every image to name it."""
    if hasattr(dataset, "categories"):  # Caltech101
        folder = Path(dataset.root) / "101_ObjectCategories"
        rows = zip(dataset.y, dataset.index, strict=True)
        return [(folder / dataset.categories[label] / f"image_{number:04d}.jpg", label) for label, number in rows]
    return list(zip(dataset._images, dataset._labels, strict=True))  # OxfordIIITPet
