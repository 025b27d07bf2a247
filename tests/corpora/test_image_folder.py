"""A folder of images with text files beside them is a corpus; every folder is read once, whatever links lead to it."""

import os

import pytest

from gmail_kedro.corpora.image_folder import read_image_folder, walk_folders
from gmail_kedro.corpora.skipped_entries import Skipped


@pytest.fixture
def folder(tmp_path, encode, real_image):
    for name in ("b.jpg", "a/1.PNG", "a/2.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(real_image))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfA b.\r\n\r\nAnother  b.\r\n")
    (tmp_path / "a/1.txt").write_text("Ein „A“ 🐈")
    (tmp_path / "a/2.txt").write_text("two")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "notes.md").write_text("mine")
    return tmp_path


@pytest.mark.reliability(8)
def test_every_line_is_a_caption(folder):
    table = read_image_folder(folder, name="own")
    rows = table.captions[["image_id", "caption"]].values.tolist()
    assert rows == [["b.jpg", "A b."], ["b.jpg", "Another b."], ["a/1.PNG", "Ein „A“ 🐈"], ["a/2.jpeg", "two"]]
    assert table.captions["caption_id"].is_unique
    assert table.images.read("a/1.PNG") == (folder / "a/1.PNG").read_bytes()


def test_a_text_that_is_a_list_written_out_is_several_captions(folder):
    (folder / "b.txt").write_text('["A b.", "Another b."]\n')
    assert read_image_folder(folder, name="own").captions["caption"].tolist()[:2] == ["A b.", "Another b."]


def test_ids_do_not_move_when_images_are_added(folder, encode, real_image):
    before = read_image_folder(folder, name="own").captions.set_index("image_id")["caption_id"].to_dict()
    (folder / "0.jpg").write_bytes(encode(real_image))
    (folder / "0.txt").write_text("first")
    after = read_image_folder(folder, name="own").captions.set_index("image_id")["caption_id"].to_dict()
    assert {name: after[name] for name in before} == before


def test_folders_called_after_splits_are_splits(folder):
    for split, name in (("train", "a"), ("test", "b")):
        (folder / split).mkdir()
        for path in list(folder.glob(f"{name}*")):
            path.rename(folder / split / path.name)
    captions = read_image_folder(folder, name="own").captions
    assert captions.groupby("split")["image_id"].unique().map(list).to_dict() == {
        "test": ["test/b.jpg"], "train": ["train/a/1.PNG", "train/a/2.jpeg"],
    }  # fmt: skip


@pytest.mark.reliability(8)
@pytest.mark.reliability(12)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "image without a .txt file beside it"),
        (b" \n", "empty caption file"),
        (b"caf\xe9", "caption that is not UTF-8"),
        (b"\xe2\x80\x8b", "blank caption"),
    ],
)
def test_an_image_without_a_usable_caption_is_counted(folder, content, reason):
    """Peers tests 8 and 12."""
    (folder / "b.txt").unlink()
    if content is not None:
        (folder / "b.txt").write_bytes(content)
    table = read_image_folder(folder, name="own")
    assert len(table.captions) == 2
    assert table.skipped.counts == {reason: 1}


def test_upper_case_is_read_on_every_disk(tmp_path, encode, real_image):
    (tmp_path / "IMG_0.JPG").write_bytes(encode(real_image))
    (tmp_path / "IMG_0.TXT").write_text("number 0")
    (tmp_path / "IMG_1.Jfif").write_bytes(encode(real_image))
    (tmp_path / "IMG_1.TXT").write_text("left out")
    (tmp_path / "IMG_1.txt").write_text("number 1")
    table = read_image_folder(tmp_path, name="own")
    assert table.captions[["image_id", "caption"]].values.tolist() == [
        ["IMG_0.JPG", "number 0"],
        ["IMG_1.Jfif", "number 1"],
    ]
    assert table.skipped.summary == {"second .txt file beside an image": (1, "IMG_1.TXT")}


@pytest.mark.reliability(8)
@pytest.mark.reliability(12)
def test_images_that_are_not_read_and_texts_alone_are_counted(folder):
    for name in ("a/p.HEIC", "a/p.txt", "x.txt", "x.json", "y.json", "z.cls", "b.dng", "b.json", "photo..jpg"):
        (folder / name).write_text("x")
    table = read_image_folder(folder, name="own")
    assert len(table.captions) == 4
    assert table.skipped.summary == {
        "image in a format that is not read here (heic)": (1, "a/p.HEIC"),
        "caption without an image": (3, "x.txt"),
        "image without a .txt file beside it": (1, "photo..jpg"),
    }


def test_avif_is_read_where_pillow_can(tmp_path, monkeypatch):
    (tmp_path / "a.avif").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setattr("gmail_kedro.corpora.image_folder.IMAGE_ENDINGS", frozenset({"avif"}))
    assert read_image_folder(tmp_path, name="own").captions["image_id"].tolist() == ["a.avif"]
    monkeypatch.setattr("gmail_kedro.corpora.image_folder.IMAGE_ENDINGS", frozenset({"jpg"}))
    monkeypatch.setattr("gmail_kedro.corpora.image_folder.UNREAD_ENDINGS", frozenset({"avif"}))
    counts = read_image_folder(tmp_path, name="own").skipped.counts
    assert counts == {"image in a format that is not read here (avif)": 1}


def test_linked_folders_are_read_and_no_image_is_in_two_splits(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("disk")
    (folder / "a").rename(other / "a")
    (folder / "more").symlink_to(other / "a")
    assert sorted(read_image_folder(folder, name="own").captions["image_id"].unique()) == [
        "b.jpg",
        "more/1.PNG",
        "more/2.jpeg",
    ]
    for path in [*folder.glob("b*"), folder / "more", *folder.glob("n*")]:
        path.rename(other / path.name)
    (folder / "train").symlink_to(other / "a")
    (folder / "test").symlink_to(other / "a")
    table = read_image_folder(folder, name="own")
    assert table.captions["image_id"].tolist() == ["test/1.PNG", "test/2.jpeg"]
    assert table.skipped.summary == {"folder that is read under another name already": (1, "train")}


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"must hold images \(avif, bmp, .* with a .txt file of captions beside each"):
        read_image_folder(tmp_path, name="own")
    with pytest.raises(FileNotFoundError, match="images folder '.*gone' of the corpus 'own' does not exist"):
        read_image_folder(tmp_path / "gone", name="own")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_captions_in_other_encodings_of_unicode(folder, encoding):
    (folder / "b.txt").write_bytes("A b.\r\nЖ 🐈\r\n".encode(encoding))
    captions = read_image_folder(folder, name="own").captions
    assert captions.loc[captions["image_id"] == "b.jpg", "caption"].tolist() == ["A b.", "Ж 🐈"]


def test_what_only_begins_as_utf_16_is_counted(folder):
    (folder / "b.txt").write_bytes("A b.".encode("utf-16")[:-1])
    assert read_image_folder(folder, name="own").skipped.counts == {"caption that is not UTF-8": 1}


@pytest.fixture
def top(tmp_path):
    for name in ("top/b/2.txt", "top/a/1.txt", "top/0.txt", "top/.hidden/3.txt", "top/.4.txt", "other/deep/5.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path / "top"


def _walk(top):
    skipped = Skipped()
    found = [
        (parent / name).relative_to(top).as_posix() for parent, files in walk_folders(top, skipped) for name in files
    ]
    return found, skipped.summary


def test_files_come_sorted_and_hidden_ones_do_not(top):
    assert _walk(top) == (["0.txt", "a/1.txt", "b/2.txt"], {})


def test_links_are_followed_after_the_folders(top):
    (top / "0_link").symlink_to("../other")
    os.link(top / "0.txt", top / "9.txt")
    (top / "a/file").symlink_to("../0.txt")
    assert _walk(top) == (["0.txt", "9.txt", "a/1.txt", "a/file", "b/2.txt", "0_link/deep/5.txt"], {})
    (top.parent / "name").symlink_to(top)
    assert len(_walk(top.parent / "name")[0]) == 6


@pytest.mark.parametrize(
    ("place", "target", "reason"),
    [
        ("0", "b", "folder that is read under another name already"),
        ("a/self", ".", "folder that is read under another name already"),
        ("a/up", "..", "folder that is read under another name already"),
        ("a/around", "../..", "link to a folder around its own"),
        ("gone", "/nowhere/at/all", "link that leads to nothing"),
        ("loop", "loop", "link that leads to nothing"),
    ],
)
def test_circles_second_names_and_dead_links_are_counted(top, place, target, reason):
    (top / place).symlink_to(target)
    assert _walk(top) == (["0.txt", "a/1.txt", "b/2.txt"], {reason: (1, place)})


def test_two_links_to_one_folder_give_it_once(top):
    (top / "m").symlink_to("../other/deep")
    (top / "n").symlink_to("../other")
    found, skipped = _walk(top)
    assert found[3:] == ["m/5.txt"]
    assert skipped == {"folder that is read under another name already": (1, "n/deep")}


def test_what_is_no_file_and_what_cannot_be_opened_is_counted(top, monkeypatch):
    os.mkfifo(top / "pipe.txt")
    scan = os.scandir

    def scandir(place):
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    found, skipped = _walk(top)
    assert found == ["0.txt", "a/1.txt"]
    assert skipped == {"neither a file nor a folder": (1, "pipe.txt"), "folder that cannot be opened": (1, "b")}
