"""COCO's own captions files, as the official download holds them."""

import copy
import json

import pytest

from gmail_kedro.corpora.coco import read_coco

CONTENT = {
    "info": {"year": 2017},
    "licenses": [],
    "images": [
        {"id": 391895, "file_name": "000000391895.jpg", "height": 32, "width": 48},
        {"id": 9, "file_name": "000000000009.jpg", "height": 32, "width": 48},
    ],
    "annotations": [
        {"id": 7, "image_id": 9, "caption": "A dog.\n"},
        {"id": 5, "image_id": 391895, "caption": "A man  on a bike."},
        {"id": 6, "image_id": 9, "caption": "Ein Hund – „brav“ 🐕"},
    ],
}


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


@pytest.fixture
def read(tmp_path):
    def read_content(content):
        (tmp_path / "captions_val2017.json").write_text(json.dumps(content))
        (tmp_path / "val2017").mkdir(exist_ok=True)
        return read_coco(tmp_path / "captions_val2017.json", tmp_path / "val2017", name="coco", home="cocodataset.org")

    return read_content


def test_captions_stand_by_picture_in_file_order(read, content, tmp_path):
    reading = read(content)
    assert reading.captions.values.tolist() == [
        ["5", "391895", "A man on a bike.", "000000391895.jpg"],
        ["7", "9", "A dog.", "000000000009.jpg"],
        ["6", "9", "Ein Hund – „brav“ 🐕", "000000000009.jpg"],
    ]
    assert reading.images.paths["9"] == tmp_path / "val2017" / "000000000009.jpg"
    assert reading.skipped.counts == {}


def test_a_picture_without_captions_is_counted(read, content):
    content["images"].append({"id": 1, "file_name": "1.jpg"})
    assert read(content).skipped.counts == {"picture without a caption": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop("annotations"),
            r"Missing: \['annotations'\]; got \['images', 'info'.*layout: karpathy",
        ),
        (lambda c: c.update(images={}), r"Missing: \['images'\]"),
        (lambda c: c["annotations"][1].update(image_id=4), r"annotations\[1\]: the image_id 4 is none of the 2 images"),
        (lambda c: c["annotations"][1].update(id=7), r"annotations\[1\]: the id 7 must be used once only"),
        (lambda c: c["annotations"][1].update(id="7"), r"annotations\[1\]: 'id' must be an integer. Got '7'"),
        (lambda c: c["annotations"][1].update(caption=" "), r"annotations\[1\] \(id 5\): the caption must be text"),
        (lambda c: c["annotations"][1].pop("caption"), r"\(id 5\): the caption must be text. Got None"),
        (lambda c: c["annotations"].insert(0, "x"), r"annotations\[0\]: 'id' must be an integer. Got None"),
        (lambda c: c["images"][1].update(id=391895), r"images\[1\] .*: the id 391895 must be used once only"),
        (lambda c: c["images"][1].update(file_name="../x.jpg"), r"images\[1\]: 'file_name' must be a name below"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\]: 'file_name' must be a name below.*Got None"),
    ],
)
def test_a_bad_entry_is_refused_by_name(read, content, change, message):
    """Peers test 8: duplicates, wrong image id, wrong layout."""
    change(content)
    with pytest.raises(ValueError, match=message):
        read(content)


def test_a_missing_file_is_named_with_its_home(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'coco' '.*none.json' does not exist.*It comes from: cocodataset.org"):
        read_coco(tmp_path / "none.json", tmp_path, name="coco", home="cocodataset.org")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"images folder '.*gone'.*It comes from: cocodataset.org"):
        read_coco(tmp_path / "a.json", tmp_path / "gone", name="coco", home="cocodataset.org")
