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
    def read_content(content, **options):
        (tmp_path / "captions_val2017.json").write_text(json.dumps(content))
        (tmp_path / "val2017").mkdir(exist_ok=True)
        places = (tmp_path / "captions_val2017.json", tmp_path / "val2017")
        return read_coco(*places, name="coco", home="cocodataset.org", **options)

    return read_content


def test_captions_stand_by_image_in_file_order(read, content, tmp_path):
    table = read(content)
    assert table.captions.values.tolist() == [
        ["5", "391895", "A man on a bike.", "000000391895.jpg"],
        ["7", "9", "A dog.", "000000000009.jpg"],
        ["6", "9", "Ein Hund – „brav“ 🐕", "000000000009.jpg"],
    ]
    assert table.images.path("9") == tmp_path / "val2017" / "000000000009.jpg"
    assert table.skipped.counts == {}


def test_an_image_without_captions_is_counted(read, content):
    content["images"].append({"id": 1, "file_name": "1.jpg"})
    assert read(content).skipped.counts == {"image without a caption": 1}


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
        (lambda c: c["annotations"][1].update(id="7"), r"annotations\[1\]: the id 7 must be used once only"),
        (lambda c: c["annotations"][1].update(id=True), r"annotations\[1\]: 'id' must be an integer or a.* Got True"),
        (lambda c: c["annotations"][1].update(image_id=[9]), r"'image_id' must be an integer or a string. Got \[9\]"),
        (lambda c: c["images"][1].update(id=" "), r"images\[1\]: 'id' must be an integer or a string. Got ' '"),
        (lambda c: c["images"][1].update(id=0.5), r"images\[1\]: 'id' must be an integer or a string. Got 0.5"),
        (lambda c: c["annotations"].insert(0, "x"), r"annotations\[0\]: 'id' must be an integer or a string. Got None"),
        (lambda c: c["images"][1].update(id=391895), r"images\[1\] .*: the id 391895 must be used once only"),
        (lambda c: c["images"][1].update(file_name="../x.jpg"), r"images\[1\]: 'file_name' must be a name below"),
        (lambda c: c["images"][1].update(file_name="a/../x.jpg"), r"images\[1\]: 'file_name' must be a name below"),
        (lambda c: c["images"][1].update(file_name="/x.jpg"), r"images\[1\]: 'file_name' must be a name below"),
        (lambda c: c["images"][1].update(file_name=" "), r"images\[1\]: 'file_name' must be a name below.*Got ' '"),
        (lambda c: c["images"][1].update(file_name="./"), r"images\[1\]: 'file_name' must be a name below"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\]: 'file_name' must be a name below.*Got None"),
    ],
)
def test_a_bad_entry_is_refused_by_name(read, content, change, message):
    """Peers test 8: duplicates, wrong image id, wrong layout."""
    change(content)
    with pytest.raises(ValueError, match=message):
        read(content)


@pytest.mark.reliability(12)
@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (None, "no caption"),
        (" ", "blank caption"),
        ("?!", "caption without words"),
        (5, "caption that is not text"),
        (["A man."], "caption that is not text"),
        ("a \ud83d", "caption that is not UTF-8"),
    ],
)
def test_a_caption_that_cannot_be_used_is_counted(read, content, caption, reason):
    content["annotations"][1]["caption"] = caption
    table = read(content)
    assert table.captions["caption_id"].tolist() == ["7", "6"]
    assert table.skipped.counts == {reason: 1}
    with pytest.raises(ValueError, match=rf"1 of the 3 entries.*\n- {reason}: 1 \(such as caption 5"):
        table.skipped.check(taken=2, limit=0.001, name="coco")


def test_absent_images_are_left_out_where_asked_and_counted(read, content, tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017/000000000009.jpg").write_bytes(b"x")
    table = read(content, skip_missing=True)
    assert table.captions["caption_id"].tolist() == ["7", "6"]
    assert table.skipped.counts == {"image that is not there": 1}
    table.skipped.check(taken=2, limit=0.0, name="coco")
    assert len(read(content).captions) == 3


def test_ids_that_are_text_and_names_with_dots(read, content, tmp_path):
    content["images"] = [{"id": "p1", "file_name": "./photo..jpg"}, {"id": "p2", "file_name": "a//b.jpg"}]
    content["annotations"] = [
        {"id": "c2", "image_id": "p2", "caption": "Two."},
        {"id": "c1", "image_id": "p1", "caption": "One."},
    ]
    table = read(content)
    assert table.captions.values.tolist() == [["c1", "p1", "One.", "photo..jpg"], ["c2", "p2", "Two.", "a/b.jpg"]]
    assert table.images.path("p1") == tmp_path / "val2017" / "photo..jpg"


def test_one_file_under_two_ids_is_refused_with_the_count(read, content):
    """One real image could be held out under one id and trained on under the other."""
    content["images"] += [{"id": 10, "file_name": "./000000000009.jpg"}, {"id": 11, "file_name": "000000391895.jpg"}]
    with pytest.raises(
        ValueError, match=r"2 file names are used by more than one.*'000000391895.jpg' by \['391895', '11'"
    ):
        read(content)


def test_a_missing_file_is_named_with_its_home(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'coco' '.*none.json' does not exist.*It comes from: cocodataset.org"):
        read_coco(tmp_path / "none.json", tmp_path, name="coco", home="cocodataset.org")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"images folder '.*gone'.*It comes from: cocodataset.org"):
        read_coco(tmp_path / "a.json", tmp_path / "gone", name="coco", home="cocodataset.org")
