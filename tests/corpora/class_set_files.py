"""The eight classification sets, each as a tiny copy of its true layout on disk.

Each writer returns the classes, and the labels of what is measured on when the whole set is; ``TRAINED`` has what may
be trained on.
"""

import json
from pathlib import Path

import numpy as np
from scipy.io import savemat

DOTTED = ("polka-dotted/polka-dotted_1", "polka-dotted/polka-dotted_2")


def put(root: Path, content: bytes, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _dtd(root, image):
    base = root / "dtd/dtd"
    put(base / "images", image, "banded/banded_1.jpg", "polka-dotted/polka-dotted_7.jpg", "banded/banded_2.jpg")
    put(
        base / "images",
        image,
        "polka-dotted/polka-dotted_1.jpg",
        "banded/banded_3.jpg",
        "polka-dotted/polka-dotted_2.jpg",
    )
    write(base / "labels/test1.txt", "banded/banded_2.jpg", "polka-dotted/polka-dotted_7.jpg")
    write(base / "labels/train1.txt", "banded/banded_1.jpg", f"{DOTTED[0]}.jpg")
    write(base / "labels/val1.txt", "banded/banded_3.jpg", f"{DOTTED[1]}.jpg")
    return ("banded", "polka-dotted"), {
        "dtd/dtd/images/banded/banded_2.jpg": 0, "dtd/dtd/images/polka-dotted/polka-dotted_7.jpg": 1,
    }  # fmt: skip


def _stanford_cars(root, image):
    base = root / "stanford_cars"
    put(base, image, "cars_test/00001.jpg", "cars_test/00002.jpg")
    rows = np.array([("00001.jpg", 2), ("00002.jpg", 1)], dtype=[("fname", object), ("class", int)])
    savemat(base / "cars_test_annos_withlabels.mat", {"annotations": rows})
    (base / "devkit").mkdir()
    put(base, image, *(f"cars_train/{number:05}.jpg" for number in range(1, 7)))
    rows = np.array(
        [(f"{number:05}.jpg", 1 + number % 2) for number in range(1, 7)], dtype=[("fname", object), ("class", int)]
    )
    savemat(base / "devkit/cars_train_annos.mat", {"annotations": rows})
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    return tuple(names), {"stanford_cars/cars_test/00001.jpg": 1, "stanford_cars/cars_test/00002.jpg": 0}


def _sun397(root, image):
    put(root / "SUN397", image, "a/abbey/sun_a.jpg", "a/apse/indoor/sun_b.jpg", "a/abbey/sun_c.jpg")
    put(root / "SUN397", image, "a/apse/indoor/sun_d.jpg", "a/apse/indoor/sun_e.jpg", "a/abbey/sun_f.jpg")
    write(root / "SUN397/Testing_01.txt", "/a/abbey/sun_a.jpg", "/a/apse/indoor/sun_b.jpg")
    write(
        root / "SUN397/Training_01.txt",
        "/a/abbey/sun_c.jpg", "/a/apse/indoor/sun_d.jpg", "/a/apse/indoor/sun_e.jpg", "/a/abbey/sun_f.jpg",
    )  # fmt: skip
    write(root / "SUN397/ClassName.txt", "/a/abbey", "/a/apse/indoor")
    labels = {f"SUN397/a/abbey/sun_{letter}.jpg": 0 for letter in "acf"}
    labels |= {f"SUN397/a/apse/indoor/sun_{letter}.jpg": 1 for letter in "bde"}
    return ("abbey", "apse indoor"), labels


def _food101(root, image):
    put(root / "food-101/images", image, "apple_pie/1.jpg", "waffles/2.jpg")
    write(root / "food-101/meta/test.json", '{"waffles": ["waffles/2"], "apple_pie": ["apple_pie/1"]}')
    trained = {name: [f"{name}/{number}" for number in (5, 6, 7)] for name in ("apple_pie", "waffles")}
    put(root / "food-101/images", image, *(f"{name}.jpg" for names in trained.values() for name in names))
    write(root / "food-101/meta/train.json", json.dumps(trained))
    labels = {"food-101/images/apple_pie/1.jpg": 0, "food-101/images/waffles/2.jpg": 1}
    return ("apple pie", "waffles"), labels


def _fgvc_aircraft(root, image):
    base = root / "fgvc-aircraft-2013b/data"
    put(base / "images", image, "0034309.jpg", "0034958.jpg")
    write(base / "variants.txt", "707-320", "F/A-18")
    write(base / "images_variant_test.txt", "0034958 707-320", "0034309 F/A-18")
    put(base / "images", image, "0000001.jpg", "0000002.jpg", "0000003.jpg", "0000004.jpg")
    write(base / "images_variant_train.txt", "0000001 707-320", "0000002 F/A-18")
    write(base / "images_variant_val.txt", "0000003 707-320", "0000004 F/A-18")
    write(base / "families.txt", "Boeing 707")
    write(base / "manufacturers.txt", "Boeing")
    at = "fgvc-aircraft-2013b/data/images"
    return ("707-320", "F/A-18"), {f"{at}/0034958.jpg": 0, f"{at}/0034309.jpg": 1}


def _oxford_pets(root, image):
    base = root / "oxford-iiit-pet"
    put(base / "images", image, "Abyssinian_2.jpg", "american_bulldog_1.jpg")
    write(base / "annotations/test.txt", "Abyssinian_2 1 1 1", "american_bulldog_1 2 2 1")
    trained = [
        (f"{kind}_{n}", label) for label, kind in ((1, "Abyssinian"), (2, "american_bulldog")) for n in (5, 6, 7)
    ]
    put(base / "images", image, *(f"{name}.jpg" for name, _ in trained))
    write(base / "annotations/trainval.txt", *(f"{name} {label} 1 1" for name, label in trained))
    at = "oxford-iiit-pet/images"
    return ("Abyssinian", "American Bulldog"), {f"{at}/Abyssinian_2.jpg": 0, f"{at}/american_bulldog_1.jpg": 1}


def _caltech101(root, image):
    base = root / "caltech101/101_ObjectCategories"
    put(base, image, "BACKGROUND_Google/image_0001.jpg")
    for kind, count in (("Faces_easy", 3), ("yin_yang", 4)):
        put(base, image, *(f"{kind}/image_{number:04}.jpg" for number in range(1, count + 1)))
    (root / "caltech101/Annotations").mkdir()
    at = "caltech101/101_ObjectCategories"
    labels = {f"{at}/Faces_easy/image_000{n}.jpg": 0 for n in (1, 2, 3)}
    labels |= {f"{at}/yin_yang/image_000{n}.jpg": 1 for n in (1, 2, 3, 4)}
    return ("centered face", "yin and yang symbol"), labels


def _imagenet(root, image):
    put(root / "val", image, "n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG")
    for kind in ("n01440764", "n01443537"):
        put(root / "train", image, *(f"{kind}/{kind}_{number}.JPEG" for number in (1, 2, 3)))
    labels = {
        "val/n01440764/ILSVRC2012_val_00000293.JPEG": 0, "val/n01443537/ILSVRC2012_val_00000236.JPEG": 1,
    }  # fmt: skip
    return ("n01440764", "n01443537"), labels


COPIES = {
    "dtd": _dtd, "stanford_cars": _stanford_cars, "sun397": _sun397, "food101": _food101,
    "fgvc_aircraft": _fgvc_aircraft, "oxford_pets": _oxford_pets, "caltech101": _caltech101, "imagenet": _imagenet,
}  # fmt: skip
# How what the sets do not divide themselves is divided, as in conf/paper but for counts.
LISTINGS = {"listing": "SUN397/Testing_01.txt", "training_listing": "SUN397/Training_01.txt"}
TRAINED = {  # images of train and val; None where a fifth is drawn for val
    "dtd": (2, 2), "stanford_cars": (6, None), "sun397": (4, None), "food101": (6, None), "fgvc_aircraft": (2, 2),
    "oxford_pets": (6, None), "caltech101": (4, None), "imagenet": (6, None),
}  # fmt: skip
