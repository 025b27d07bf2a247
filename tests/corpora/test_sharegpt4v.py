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
    table = read([_entry("coco/a.jpg", "A long\nstory.\n\nIt ends."), _entry("sam/b.jpg", "Další příběh")])
    assert table.captions.values.tolist() == [
        ["0", "coco/a.jpg", "A long story. It ends.", 0],
        ["1", "sam/b.jpg", "Další příběh", 1],
    ]


def test_more_than_one_block(read, monkeypatch):
    monkeypatch.setattr("gmail_kedro.corpora.sharegpt4v.BLOCK_ROWS", 3)
    assert read([_entry(f"{n}.jpg", f"text {n}") for n in range(8)]).captions["caption_id"].tolist() == list("01234567")


def test_absent_images_are_left_out_where_asked_and_counted(read, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"b")
    table = read([_entry("a.jpg", "x"), _entry("b.jpg", "y"), _entry("/b.jpg", "z")], skip_missing=True)
    assert table.captions["caption_id"].tolist() == ["1"]
    assert table.skipped.counts == {
        "file name that leads out of the images folder": 1,
        "image that is not there": 1,
    }


def _talk(image: str, *turns: tuple[str, str]):
    return {"image": image, "conversations": [{"from": speaker, "value": value} for speaker, value in turns]}


@pytest.mark.parametrize(
    "turns",
    [
        [("system", "You are helpful."), ("human", "<image>\nWhat is it?"), ("gpt", "A cat.")],
        [("gpt", "A cat."), ("human", "<image>\nWhat is it?")],
        [("human", "What is it?"), ("human", "<image>"), ("gpt", "A cat."), ("human", "Sure?"), ("gpt", "Yes.")],
        [("human", "<image>\nWhat is it?"), ("gpt", "<image>\nA cat.")],
    ],
)
def test_the_caption_is_what_the_model_says_first(read, turns):
    table = read([_talk("a.jpg", *turns), _entry("b.jpg", "A dog.")])
    assert table.captions["caption"].tolist() == ["A cat.", "A dog."]
    assert table.skipped.counts == {}


@pytest.mark.reliability(12)
@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (_talk("x.jpg", ("human", "What is it?")), "entry in which gpt says nothing"),
        (_talk("x.jpg"), "entry in which gpt says nothing"),
        (_entry("x.jpg", None), "no caption"),
        (_entry("x.jpg", " "), "blank caption"),
        (_entry("x.jpg", "?!"), "caption without words"),
        (_entry("x.jpg", 5), "caption that is not text"),
        (_entry("", "x"), "no file name"),
        (_entry(None, "x"), "no file name"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "no file name"),
    ],
)
def test_an_entry_that_cannot_be_used_is_counted(read, entry, reason):
    table = read([_entry("a.jpg", "A cat."), entry, _entry("b.jpg", "A dog.")])
    assert table.captions.values.tolist() == [["0", "a.jpg", "A cat.", 0], ["2", "b.jpg", "A dog.", 2]]
    assert table.skipped.counts == {reason: 1}


def test_one_image_has_one_name(read):
    assert read([_entry("./a//b.jpg", "x"), _entry("a/b.jpg", "y")]).captions["image_id"].tolist() == ["a/b.jpg"] * 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_other_encodings_of_unicode(read, encoding):
    content = json.dumps([_entry("a.jpg", "Příběh")], ensure_ascii=False).encode(encoding)
    assert read(content).captions["caption"].tolist() == ["Příběh"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([_entry("a.jpg", "x"), {"id": 1}], "entry 1: must be {id, image, conversations: .*Got {'id': 1} instead"),
        ([{"image": "a.jpg", "conversations": ["x"]}], "entry 0: must be .*from: gpt"),
        ([{"image": "a.jpg", "conversations": "x"}], "entry 0: must be "),
        (["x"], "entry 0: must be .*Got 'x'"),
        (b'[{"id": 1, "image": "a', "must be a JSON list. Got an error near byte 22.*fetch it again"),
        (b"no json", "must be a JSON list"),
    ],
)
def test_another_layout_is_refused(read, content, message):
    """Peers test 8."""
    with pytest.raises(ValueError, match=message):
        read(content)
