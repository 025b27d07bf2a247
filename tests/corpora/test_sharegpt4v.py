"""Long captions, streamed from the published layout."""

import json

import pytest

from gmail_kedro.corpora.sharegpt4v import read_sharegpt4v


def _entry(image: str, caption: str):
    return {
        "id": "1",
        "image": image,
        "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": caption}],
    }


@pytest.fixture
def read(tmp_path):
    def read_content(content, **options):
        path = tmp_path / "share.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return read_sharegpt4v(path, tmp_path, name="sharegpt4v", **options)

    return read_content


def test_captions_are_one_line_each(read):
    reading = read([_entry("coco/a.jpg", "A long\nstory.\n\nIt ends."), _entry("sam/b.jpg", "Další příběh")])
    assert reading.captions.values.tolist() == [
        ["0", "coco/a.jpg", "A long story. It ends.", 0],
        ["1", "sam/b.jpg", "Další příběh", 1],
    ]


def test_more_than_one_block(read, monkeypatch):
    monkeypatch.setattr("gmail_kedro.corpora.sharegpt4v.BLOCK_ROWS", 3)
    assert read([_entry(f"{n}.jpg", f"text {n}") for n in range(8)]).captions["caption_id"].tolist() == list("01234567")


def test_absent_pictures_are_left_out_where_asked_and_counted(read, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"b")
    reading = read([_entry("a.jpg", "x"), _entry("b.jpg", "y"), _entry("/b.jpg", "z")], skip_missing=True)
    assert reading.captions["caption_id"].tolist() == ["1"]
    assert reading.skipped.counts == {
        "file name that leads out of the images folder": 1,
        "picture that is not there": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([_entry("a.jpg", "x"), {"id": 1}], "entry 1: must be {id, image, conversations.*KeyError: 'image'"),
        ([{"image": "a.jpg", "conversations": []}], "entry 0: must be .*IndexError"),
        ([_entry("a.jpg", None)], "entry 0: must be .*must be strings"),
        (["x"], "entry 0: must be .*TypeError"),
        (b'[{"id": 1, "image": "a', "must be a JSON list. Got an error near byte 22.*fetch it again"),
        (b"no json", "must be a JSON list"),
    ],
)
def test_another_layout_is_refused(read, content, message):
    """Peers test 8."""
    with pytest.raises(ValueError, match=message):
        read(content)
