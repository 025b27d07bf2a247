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


@pytest.mark.reliability(8)
def test_every_line_is_a_caption(folder):
    reading = read_folder(folder, name="own")
    rows = reading.captions[["image_id", "caption"]].values.tolist()
    assert rows == [["b.jpg", "A b."], ["b.jpg", "Another b."], ["a/1.PNG", "Ein „A“ 🐈"], ["a/2.jpeg", "two"]]
    assert reading.captions["caption_id"].is_unique
    assert reading.images.read("a/1.PNG") == (folder / "a/1.PNG").read_bytes()


def test_a_text_that_is_a_list_written_out_is_several_captions(folder):
    (folder / "b.txt").write_text('["A b.", "Another b."]\n')
    assert read_folder(folder, name="own").captions["caption"].tolist()[:2] == ["A b.", "Another b."]


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


@pytest.mark.reliability(8)
@pytest.mark.reliability(12)
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


def test_upper_case_is_read_on_every_disk(tmp_path, encode, photograph):
    (tmp_path / "IMG_0.JPG").write_bytes(encode(photograph))
    (tmp_path / "IMG_0.TXT").write_text("number 0")
    (tmp_path / "IMG_1.Jfif").write_bytes(encode(photograph))
    (tmp_path / "IMG_1.TXT").write_text("left out")
    (tmp_path / "IMG_1.txt").write_text("number 1")
    reading = read_folder(tmp_path, name="own")
    assert reading.captions[["image_id", "caption"]].values.tolist() == [
        ["IMG_0.JPG", "number 0"],
        ["IMG_1.Jfif", "number 1"],
    ]
    assert reading.skipped.summary == {"second .txt file beside a picture": (1, "IMG_1.TXT")}


@pytest.mark.reliability(8)
@pytest.mark.reliability(12)
def test_pictures_that_are_not_read_and_texts_alone_are_counted(folder):
    for name in ("a/p.HEIC", "a/p.txt", "x.txt", "x.json", "y.json", "z.cls", "b.dng", "b.json", "photo..jpg"):
        (folder / name).write_text("x")
    reading = read_folder(folder, name="own")
    assert len(reading.captions) == 4
    assert reading.skipped.summary == {
        "picture in a format that is not read here (heic)": (1, "a/p.HEIC"),
        "caption without a picture": (3, "x.txt"),
        "picture without a .txt file beside it": (1, "photo..jpg"),
    }


def test_avif_is_read_where_pillow_can(tmp_path, monkeypatch):
    (tmp_path / "a.avif").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setattr("gmail_kedro.corpora.beside.PICTURE_ENDINGS", frozenset({"avif"}))
    assert read_folder(tmp_path, name="own").captions["image_id"].tolist() == ["a.avif"]
    monkeypatch.setattr("gmail_kedro.corpora.beside.PICTURE_ENDINGS", frozenset({"jpg"}))
    monkeypatch.setattr("gmail_kedro.corpora.beside.UNREAD_ENDINGS", frozenset({"avif"}))
    assert read_folder(tmp_path, name="own").skipped.counts == {"picture in a format that is not read here (avif)": 1}


def test_linked_folders_are_read_and_no_picture_is_in_two_splits(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("disk")
    (folder / "a").rename(other / "a")
    (folder / "more").symlink_to(other / "a")
    assert sorted(read_folder(folder, name="own").captions["image_id"].unique()) == [
        "b.jpg",
        "more/1.PNG",
        "more/2.jpeg",
    ]
    for path in [*folder.glob("b*"), folder / "more", *folder.glob("n*")]:
        path.rename(other / path.name)
    (folder / "train").symlink_to(other / "a")
    (folder / "test").symlink_to(other / "a")
    reading = read_folder(folder, name="own")
    assert reading.captions["image_id"].tolist() == ["test/1.PNG", "test/2.jpeg"]
    assert reading.skipped.summary == {"folder that is read under another name already": (1, "train")}


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        ValueError, match=r"must hold pictures \(avif, bmp, .* with a .txt file of captions beside each"
    ):
        read_folder(tmp_path, name="own")
    with pytest.raises(FileNotFoundError, match="images folder '.*gone' of the corpus 'own' does not exist"):
        read_folder(tmp_path / "gone", name="own")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_captions_in_other_encodings_of_unicode(folder, encoding):
    (folder / "b.txt").write_bytes("A b.\r\nЖ 🐈\r\n".encode(encoding))
    captions = read_folder(folder, name="own").captions
    assert captions.loc[captions["image_id"] == "b.jpg", "caption"].tolist() == ["A b.", "Ж 🐈"]


def test_what_only_begins_as_utf_16_is_counted(folder):
    (folder / "b.txt").write_bytes("A b.".encode("utf-16")[:-1])
    assert read_folder(folder, name="own").skipped.counts == {"caption that is not UTF-8": 1}
