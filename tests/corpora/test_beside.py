"""A folder of pictures with text files beside them is a corpus."""

import pytest

from gmail_kedro.corpora.beside import read_folder


@pytest.fixture
def folder(tmp_path, encode, photograph):
    for name in ("b.jpg", "a/1.PNG", "a/2.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(photograph))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfA b.\r\n\r\nAnother  b.\r\n")
    (tmp_path / "a/1.txt").write_text("Ein „A“ 🐈")
    (tmp_path / "a/2.txt").write_text("two")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "notes.md").write_text("mine")
    return tmp_path


def test_every_line_is_a_caption(folder):
    reading = read_folder(folder, name="own")
    rows = reading.captions[["image_id", "caption"]].values.tolist()
    assert rows == [["b.jpg", "A b."], ["b.jpg", "Another b."], ["a/1.PNG", "Ein „A“ 🐈"], ["a/2.jpeg", "two"]]
    assert reading.captions["caption_id"].is_unique
    assert reading.images.read("a/1.PNG") == (folder / "a/1.PNG").read_bytes()


def test_ids_do_not_move_when_pictures_are_added(folder, encode, photograph):
    before = read_folder(folder, name="own").captions.set_index("image_id")["caption_id"].to_dict()
    (folder / "0.jpg").write_bytes(encode(photograph))
    (folder / "0.txt").write_text("first")
    after = read_folder(folder, name="own").captions.set_index("image_id")["caption_id"].to_dict()
    assert {name: after[name] for name in before} == before


def test_folders_called_after_splits_are_splits(folder):
    for split, name in (("train", "a"), ("test", "b")):
        (folder / split).mkdir()
        for path in list(folder.glob(f"{name}*")):
            path.rename(folder / split / path.name)
    captions = read_folder(folder, name="own").captions
    assert captions.groupby("split")["image_id"].unique().map(list).to_dict() == {
        "test": ["test/b.jpg"], "train": ["train/a/1.PNG", "train/a/2.jpeg"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "picture without a .txt file beside it"),
        (b" \n", "empty caption file"),
        (b"caf\xe9", "caption that is not UTF-8"),
        (b"\xe2\x80\x8b", "blank caption"),
    ],
)
def test_a_picture_without_a_usable_caption_is_counted(folder, content, reason):
    """Peers tests 8 and 12."""
    (folder / "b.txt").unlink()
    if content is not None:
        (folder / "b.txt").write_bytes(content)
    reading = read_folder(folder, name="own")
    assert len(reading.captions) == 2
    assert reading.skipped.counts == {reason: 1}


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"must hold pictures \(.bmp, .* with a .txt file of captions beside each"):
        read_folder(tmp_path, name="own")
    with pytest.raises(FileNotFoundError, match="images folder '.*gone' of the corpus 'own' does not exist"):
        read_folder(tmp_path / "gone", name="own")
