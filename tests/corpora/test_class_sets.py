"""The eight classification sets, each as a tiny copy of its true layout on disk."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from gmail_kedro.corpora.class_sets import CLASS_SETS, class_names, read_class_set


def _put(root: Path, content: bytes, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _dtd(root, picture):
    base = root / "dtd/dtd"
    _put(base / "images", picture, "banded/banded_1.jpg", "polka-dotted/polka-dotted_7.jpg", "banded/banded_2.jpg")
    _write(base / "labels/test1.txt", "banded/banded_2.jpg", "polka-dotted/polka-dotted_7.jpg")
    return ("banded", "polka-dotted"), {
        "dtd/dtd/images/banded/banded_2.jpg": 0, "dtd/dtd/images/polka-dotted/polka-dotted_7.jpg": 1,
    }  # fmt: skip


def _stanford_cars(root, picture):
    base = root / "stanford_cars"
    _put(base, picture, "cars_test/00001.jpg", "cars_test/00002.jpg")
    rows = np.array([("00001.jpg", 2), ("00002.jpg", 1)], dtype=[("fname", object), ("class", int)])
    savemat(base / "cars_test_annos_withlabels.mat", {"annotations": rows})
    (base / "devkit").mkdir()
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    return tuple(names), {"stanford_cars/cars_test/00001.jpg": 1, "stanford_cars/cars_test/00002.jpg": 0}


def _sun397(root, picture):
    _put(root / "SUN397", picture, "a/abbey/sun_a.jpg", "a/apse/indoor/sun_b.jpg", "a/abbey/sun_c.jpg")
    _write(root / "SUN397/ClassName.txt", "/a/abbey", "/a/apse/indoor")
    labels = {"SUN397/a/abbey/sun_a.jpg": 0, "SUN397/a/abbey/sun_c.jpg": 0, "SUN397/a/apse/indoor/sun_b.jpg": 1}
    return ("abbey", "apse indoor"), labels


def _food101(root, picture):
    _put(root / "food-101/images", picture, "apple_pie/1.jpg", "waffles/2.jpg")
    _write(root / "food-101/meta/test.json", '{"waffles": ["waffles/2"], "apple_pie": ["apple_pie/1"]}')
    labels = {"food-101/images/apple_pie/1.jpg": 0, "food-101/images/waffles/2.jpg": 1}
    return ("apple pie", "waffles"), labels


def _fgvc_aircraft(root, picture):
    base = root / "fgvc-aircraft-2013b/data"
    _put(base / "images", picture, "0034309.jpg", "0034958.jpg")
    _write(base / "variants.txt", "707-320", "F/A-18")
    _write(base / "images_variant_test.txt", "0034958 707-320", "0034309 F/A-18")
    _write(base / "families.txt", "Boeing 707")
    _write(base / "manufacturers.txt", "Boeing")
    at = "fgvc-aircraft-2013b/data/images"
    return ("707-320", "F/A-18"), {f"{at}/0034958.jpg": 0, f"{at}/0034309.jpg": 1}


def _oxford_pets(root, picture):
    base = root / "oxford-iiit-pet"
    _put(base / "images", picture, "Abyssinian_2.jpg", "american_bulldog_1.jpg")
    _write(base / "annotations/test.txt", "Abyssinian_2 1 1 1", "american_bulldog_1 2 2 1")
    at = "oxford-iiit-pet/images"
    return ("Abyssinian", "American Bulldog"), {f"{at}/Abyssinian_2.jpg": 0, f"{at}/american_bulldog_1.jpg": 1}


def _caltech101(root, picture):
    base = root / "caltech101/101_ObjectCategories"
    _put(base, picture, "BACKGROUND_Google/image_0001.jpg", "Faces_easy/image_0001.jpg", "yin_yang/image_0001.jpg")
    _put(base, picture, "yin_yang/image_0002.jpg")
    (root / "caltech101/Annotations").mkdir()
    at = "caltech101/101_ObjectCategories"
    labels = {f"{at}/Faces_easy/image_0001.jpg": 0} | {f"{at}/yin_yang/image_000{n}.jpg": 1 for n in (1, 2)}
    return ("centered face", "yin and yang symbol"), labels


def _imagenet(root, picture):
    _put(root / "val", picture, "n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG")
    labels = {
        "val/n01440764/ILSVRC2012_val_00000293.JPEG": 0, "val/n01443537/ILSVRC2012_val_00000236.JPEG": 1,
    }  # fmt: skip
    return ("n01440764", "n01443537"), labels


COPIES = {
    "dtd": _dtd, "stanford_cars": _stanford_cars, "sun397": _sun397, "food101": _food101,
    "fgvc_aircraft": _fgvc_aircraft, "oxford_pets": _oxford_pets, "caltech101": _caltech101, "imagenet": _imagenet,
}  # fmt: skip
TEMPLATE_COUNTS = {
    "dtd": 8, "stanford_cars": 8, "sun397": 2, "food101": 1, "fgvc_aircraft": 2, "oxford_pets": 1, "caltech101": 34,
    "imagenet": 80,
}  # fmt: skip


@pytest.fixture
def picture(encode, photograph) -> bytes:
    return encode(photograph)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_each_set_is_read_from_its_own_layout(tmp_path, picture, name):
    classes, labels = COPIES[name](tmp_path, picture)
    found = read_class_set(name, tmp_path, check_counts=False)
    assert found.task.classes == classes
    assert found.task.labels == labels
    assert len(found.task.templates) == TEMPLATE_COUNTS[name]
    assert all(template.count("{}") == 1 for template in found.task.templates)
    assert {found.images.read(key) for key in labels} == {picture}
    mean_per_class = name in ("fgvc_aircraft", "oxford_pets", "caltech101")
    assert found.metric == ("mean_per_class_recall" if mean_per_class else "acc1")


@pytest.mark.parametrize("name", CLASS_SETS)
def test_no_picture_is_opened(tmp_path, name):
    _, labels = COPIES[name](tmp_path, b"no picture")
    assert read_class_set(name, tmp_path, check_counts=False).task.labels == labels


@pytest.mark.parametrize("name", CLASS_SETS)
def test_counts_are_held_to(tmp_path, picture, name):
    COPIES[name](tmp_path, picture)
    with pytest.raises(ValueError, match=f"{name!r} must have {CLASS_SETS[name].classes} classes. Got 2 instead"):
        read_class_set(name, tmp_path)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_an_absent_set_is_named_with_its_home(tmp_path, name):
    """Peers test 25: a missing evaluation set stops the evaluation."""
    with pytest.raises(FileNotFoundError, match=f"set {name!r} should be the folder '{tmp_path}/.*It comes from: "):
        read_class_set(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_set_is_refused(tmp_path, picture):
    _fgvc_aircraft(tmp_path, picture)
    (tmp_path / "fgvc-aircraft-2013b/data/images_variant_test.txt").unlink()
    with pytest.raises(ValueError, match="'fgvc_aircraft' in .* cannot be read: .*Complete it from: robots"):
        read_class_set("fgvc_aircraft", tmp_path)
    with pytest.raises(ValueError, match=r"set 'cifar' is unknown. Choose one of \['caltech101', "):
        read_class_set("cifar", tmp_path)


def test_an_official_partition_is_a_listing(tmp_path, picture):
    _sun397(tmp_path, picture)
    listing = tmp_path / "Testing_01.txt"
    _write(listing, "/a/apse/indoor/sun_b.jpg", "/a/abbey/sun_c.jpg")
    found = read_class_set("sun397", tmp_path, listing=listing, check_counts=False)
    assert found.task.labels == {"SUN397/a/apse/indoor/sun_b.jpg": 1, "SUN397/a/abbey/sun_c.jpg": 0}
    _write(listing, "/a/abbey/sun_x.jpg")
    with pytest.raises(ValueError, match="must name pictures of 'sun397'. 1 of its 1 lines do not, such as"):
        read_class_set("sun397", tmp_path, listing=listing, check_counts=False)


def test_imagenets_prompts_are_clips():
    zero_shot = pytest.importorskip("open_clip.zero_shot_metadata")
    names = class_names("imagenet", [str(number) for number in range(1_000)])
    assert names == tuple(zero_shot.IMAGENET_CLASSNAMES)
