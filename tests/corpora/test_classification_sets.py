"""The eight classification sets, each from a tiny copy of its true layout on disk."""

import pytest

from gmail_kedro.corpora.classification_sets import CLASS_SETS, Division, class_names, read_class_set

from .class_set_files import COPIES, LISTINGS, TRAINED, put, write

TEMPLATE_COUNTS = {
    "dtd": 8, "stanford_cars": 8, "sun397": 2, "food101": 1, "fgvc_aircraft": 2, "oxford_pets": 1, "caltech101": 34,
    "imagenet": 80,
}  # fmt: skip


@pytest.fixture
def image(encode, real_image) -> bytes:
    return encode(real_image)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_each_set_is_read_from_its_own_layout(tmp_path, image, name):
    classes, labels = COPIES[name](tmp_path, image)
    found = read_class_set(name, tmp_path, check_counts=False)
    assert found.task.classes == classes
    assert found.task.labels == labels
    assert len(found.task.templates) == TEMPLATE_COUNTS[name]
    assert all(template.count("{}") == 1 for template in found.task.templates)
    assert {found.images.read(key) for key in labels} == {image}
    mean_per_class = name in ("fgvc_aircraft", "oxford_pets", "caltech101")
    assert found.metric == ("mean_per_class_recall" if mean_per_class else "acc1")


@pytest.mark.parametrize("name", CLASS_SETS)
def test_no_image_is_opened(tmp_path, name):
    _, labels = COPIES[name](tmp_path, b"no image")
    assert read_class_set(name, tmp_path, check_counts=False).task.labels == labels


@pytest.mark.parametrize("name", CLASS_SETS)
def test_counts_are_held_to(tmp_path, image, name):
    COPIES[name](tmp_path, image)
    with pytest.raises(ValueError, match=f"{name!r} must have {CLASS_SETS[name].classes} classes. Got 2 instead"):
        read_class_set(name, tmp_path)


@pytest.mark.reliability(25)
@pytest.mark.parametrize("name", CLASS_SETS)
def test_an_absent_set_is_named_with_its_home(tmp_path, name):
    """Peers test 25: a missing evaluation set stops the evaluation."""
    with pytest.raises(FileNotFoundError, match=f"set {name!r} should be the folder '{tmp_path}/.*It comes from: "):
        read_class_set(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_set_is_refused(tmp_path, image):
    COPIES["fgvc_aircraft"](tmp_path, image)
    (tmp_path / "fgvc-aircraft-2013b/data/images_variant_test.txt").unlink()
    with pytest.raises(ValueError, match="'fgvc_aircraft' in .* cannot be read: .*Complete it from: robots"):
        read_class_set("fgvc_aircraft", tmp_path)
    with pytest.raises(ValueError, match=r"set 'cifar' is unknown. Choose one of \['caltech101', "):
        read_class_set("cifar", tmp_path)


def test_an_official_partition_is_a_listing(tmp_path, image):
    COPIES["sun397"](tmp_path, image)
    listing = tmp_path / "part.txt"
    write(listing, "/a/apse/indoor/sun_b.jpg", "/a/abbey/sun_c.jpg")
    found = read_class_set("sun397", tmp_path, division=Division(listing), check_counts=False)
    assert found.task.labels == {"SUN397/a/apse/indoor/sun_b.jpg": 1, "SUN397/a/abbey/sun_c.jpg": 0}
    write(listing, "/a/abbey/sun_x.jpg")
    with pytest.raises(ValueError, match="must name images of 'sun397'. 1 of its 1 lines do not, such as"):
        read_class_set("sun397", tmp_path, division=Division(listing), check_counts=False)


def test_imagenets_prompts_are_clips():
    zero_shot = pytest.importorskip("open_clip.zero_shot_metadata")
    names = class_names("imagenet", [str(number) for number in range(1_000)])
    assert names == tuple(zero_shot.IMAGENET_CLASSNAMES)


def division_of(name, root):
    if name == "sun397":
        return Division(*(root / path for path in LISTINGS.values()))
    return Division(train_per_class=2 if name == "caltech101" else None)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_what_is_trained_on_is_never_measured_on(tmp_path, image, name):
    classes, labels = COPIES[name](tmp_path, image)
    found = read_class_set(name, tmp_path, division=division_of(name, tmp_path), check_counts=False)
    splits = found.training()
    train, val = (splits.labels[split] for split in ("train", "val"))
    count, val_count = TRAINED[name]
    drawn = max(1, int(0.2 * count)) if val_count is None else 0
    assert (len(train), len(val)) == (count - drawn, val_count or drawn)
    assert set(train.values()) | set(val.values()) == {0, 1} and set(found.task.labels.values()) == {0, 1}
    assert not train.keys() & val.keys() and not (train.keys() | val.keys()) & found.task.labels.keys()
    assert {splits.images.read(key) for key in [*train, *val]} == {image}
    again = read_class_set(name, tmp_path, division=division_of(name, tmp_path), check_counts=False)
    assert again.training().labels == splits.labels


@pytest.mark.parametrize("name", ["sun397", "caltech101"])
def test_a_set_without_a_division_is_measured_whole_and_not_trained_on(tmp_path, image, name):
    COPIES[name](tmp_path, image)
    with pytest.raises(ValueError, match=f"{name!r} comes without a training split. Name one .* train_per_class"):
        read_class_set(name, tmp_path, check_counts=False).training()


def test_zero_shot_needs_nothing_to_train_on(tmp_path, image):
    _, labels = COPIES["imagenet"](tmp_path, image)
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    found = read_class_set("imagenet", tmp_path, check_counts=False)
    assert found.task.labels == labels
    with pytest.raises(FileNotFoundError, match=f"'imagenet' should be the folder '{tmp_path}/train'.*img_train.tar"):
        found.training()


def test_training_splits_are_held_to_their_counts_and_classes(tmp_path, image, monkeypatch):
    COPIES["dtd"](tmp_path, image)
    monkeypatch.setattr("gmail_kedro.corpora.classification_sets._check_count", check := Counts())
    read_class_set("dtd", tmp_path).training()
    assert check.seen == [("classes", 47, 2), ("images", 1880, 2), *[("training images", 1880, 2)] * 2]
    write(tmp_path / "dtd/dtd/labels/train1.txt", "banded/banded_1.jpg")
    with pytest.raises(ValueError, match=r"same classes in all splits. \['polka-dotted'\] are in one only, of 1"):
        read_class_set("dtd", tmp_path, check_counts=False).training()


class Counts:
    def __init__(self):
        self.seen = []

    def __call__(self, name, what, expected, found):
        self.seen.append((what, expected, found))


def test_an_image_in_both_splits_is_refused(tmp_path, image):
    COPIES["sun397"](tmp_path, image)
    listing = tmp_path / LISTINGS["training_listing"]
    for division in (Division(None, listing), Division(listing, listing)):
        found = read_class_set("sun397", tmp_path, division=division, check_counts=False)
        with pytest.raises(ValueError, match="4 of its 4 are, such as .*Set listing and training_listing"):
            found.training()


def test_each_class_keeps_images_to_measure_on(tmp_path, image):
    COPIES["caltech101"](tmp_path, image)
    with pytest.raises(ValueError, match="more than 3 images of each class.* Got 3 of class 0. Set a smaller"):
        read_class_set("caltech101", tmp_path, division=Division(train_per_class=3), check_counts=False)


def test_every_ending_that_is_decoded_is_measured_on(tmp_path, image):
    """torchvision's own list leaves .jfif and .gif out without a word."""
    _, labels = COPIES["imagenet"](tmp_path, image)
    put(tmp_path / "val", image, "n01440764/b.JFIF", "n01440764/c.gif")
    (tmp_path / "val/n01440764/notes.md").write_text("x")
    found = read_class_set("imagenet", tmp_path, check_counts=False)
    assert found.task.labels == labels | {"val/n01440764/b.JFIF": 0, "val/n01440764/c.gif": 0}
    put(tmp_path / "val", image, "n01440764/d.heic")
    with pytest.raises(ValueError, match=r"d.heic' is an image in a format that is not read here \(heic\). Convert it"):
        read_class_set("imagenet", tmp_path, check_counts=False)


@pytest.mark.parametrize(("place", "target"), [("val/n09", "n01440764"), ("val/n01440764/self", ".")])
def test_an_image_under_two_names_is_refused(tmp_path, image, place, target):
    COPIES["imagenet"](tmp_path, image)
    (tmp_path / place).symlink_to(target)
    with pytest.raises(ValueError, match="'imagenet' must have every image once, but '.*' and '.*' are one folder"):
        read_class_set("imagenet", tmp_path, check_counts=False)
