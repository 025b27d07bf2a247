"""Classification sets as WebDataset copies: whole, or refused."""

import pytest

from gmail_kedro.corpora.class_tars import read_class_tars

from .tars import write_tar


@pytest.fixture
def copy(tmp_path, encode, real_image):
    (tmp_path / "classnames.txt").write_text("banded\npolka-dotted\n")
    (tmp_path / "zero_shot_classification_templates.txt").write_text("a photo of a {c} texture.\n{c}\n")
    image = encode(real_image)
    write_tar(tmp_path / "test/0.tar", [("s0.cls", b"1"), ("s0.webp", image), ("s1.cls", b"0\n"), ("s1.jpg", b"x")])
    write_tar(tmp_path / "test/1.tar", [("s0.cls", b"0"), ("s0.webp", image)])
    return tmp_path


def _read(folder):
    return read_class_tars(folder, name="dtd", metric="acc1")


def test_a_copy_is_read(copy, encode, real_image):
    found = _read(copy)
    assert found.task.classes == ("banded", "polka-dotted")
    assert found.task.templates == ("a photo of a {} texture.", "{}")
    assert found.task.labels == {"0/s0": 1, "0/s1": 0, "1/s0": 0}
    assert found.images.read("1/s0") == encode(real_image)
    assert found.images.read("0/s1") == b"x"
    assert found.metric == "acc1"


@pytest.mark.reliability(25)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("s0.cls", b"2"), ("s0.jpg", b"x")], r"class of .*1.tar:s0 must be a number, 0 to 1. Got b'2'"),
        ([("s0.cls", b"cat"), ("s0.jpg", b"x")], "Got b'cat'"),
        ([("s0.jpg", b"x")], "1.tar' of the classification set 'dtd' is not whole: .*image without a caption"),
        ([("s0.cls", b"1")], "is not whole"),
        ([("s0.cls", b"1"), ("s0.heic", b"x")], r"not whole: .*format that is not read here \(heic\)"),
        ([("s0.cls", b"1"), ("s0.a.jpg", b"x"), ("s0.b.jpg", b"x")], "not whole: .*several images or captions"),
        ([("s0.cls", b"1"), ("s0.jpg", b"x"), ("s1.json", b"{}")], "not whole: .*neither an image nor a caption"),
        ([("s0.cls", b"1_0"), ("s0.jpg", b"x")], "Got b'1_0'"),
        ([("s0.cls", b"0\n1"), ("s0.jpg", b"x")], r"Got b'0\\n1'"),
        ([("__meta__", b"")], "not whole: it has no image"),
    ],
)
def test_a_copy_that_is_not_whole_is_refused(copy, members, message):
    """Peers test 25: never a part of a benchmark."""
    write_tar(copy / "test/1.tar", members)
    with pytest.raises(ValueError, match=message):
        _read(copy)


def test_dotted_names_and_a_byte_order_mark_are_read(copy):
    write_tar(copy / "test/1.tar", [("s0.in.cls", b"\xef\xbb\xbf1"), ("s0.in.jpg", b"x")])
    assert _read(copy).task.labels == {"0/s0": 1, "0/s1": 0, "1/s0": 1}


@pytest.mark.reliability(25)
def test_a_missing_tar_is_found_where_their_number_was_published(copy):
    (copy / "test/nshards.txt").write_text("2\n")
    assert len(_read(copy).task.labels) == 3
    (copy / "test/1.tar").unlink()
    with pytest.raises(ValueError, match=r"test' of .* must have 2 tars, as its nshards.txt says. Got 1 instead"):
        _read(copy)


@pytest.mark.reliability(25)
def test_missing_parts_are_named(copy):
    """Peers test 25."""
    whole = (copy / "test/1.tar").read_bytes()
    (copy / "test/1.tar").write_bytes(whole[:600])
    with pytest.raises(ValueError, match="1.tar' .* is not whole: ReadError"):
        _read(copy)
    (copy / "classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match="classnames.txt' does not exist"):
        _read(copy)


def test_what_is_trained_on_lies_beside(copy, encode, real_image):
    found = _read(copy)
    with pytest.raises(FileNotFoundError, match=r"train/\*.tar' does not exist"):
        found.training()
    image = encode(real_image)
    members = [
        (f"s{number}.{kind}", content)
        for number in range(5)
        for kind, content in (("cls", str(number % 2).encode()), ("jpg", image))
    ]
    write_tar(copy / "train/0.tar", members)
    splits = found.training()
    assert sorted([*splits.labels["train"], *splits.labels["val"]]) == [f"train/0/s{number}" for number in range(5)]
    assert len(splits.labels["val"]) == 1
    assert splits.images.read("train/0/s3") == encode(real_image)


@pytest.mark.parametrize(("templates", "wrong"), [("a photo of {c}.\na photo.\n", "'a photo.'"), ("\n", "")])
def test_a_template_without_a_class_is_refused(copy, templates, wrong):
    (copy / "zero_shot_classification_templates.txt").write_text(templates)
    with pytest.raises(ValueError, match=rf"'dtd' must have templates with one {{}} for the class name. Got \[{wrong}"):
        _read(copy)


def test_a_single_class_is_refused(copy):
    (copy / "classnames.txt").write_text("banded\n")
    write_tar(copy / "test/0.tar", [("s0.cls", b"0"), ("s0.jpg", b"x")])
    with pytest.raises(ValueError, match=r"'dtd' must have two classes or more. Got \['banded'\]"):
        _read(copy)
