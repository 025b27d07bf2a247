"""Images on disk are read as they are; a changed one is known without reading it, and absent ones are named."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gmail_kedro.corpora.tar_index import TarImages
from gmail_kedro.images.image_files import ImageFiles


@pytest.fixture
def images(tmp_path) -> ImageFiles:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "folder.jpg").mkdir()
    names = {"1": "a.jpg", "2": "gone.jpg", "3": "folder.jpg"}
    return ImageFiles(tmp_path, names)


def test_read_returns_the_bytes(images):
    assert images.read("1") == b"a"
    assert len(images.filenames) == 3


@pytest.mark.parametrize(("key", "file"), [("2", "gone.jpg"), ("3", "folder.jpg")])
def test_an_absent_file_is_named(images, key, file):
    with pytest.raises(FileNotFoundError, match=rf"image '{key}' should be the file '.*{file}', which does not exist"):
        images.read(key)


def test_an_unknown_key_is_named_beside_known_ones(images):
    with pytest.raises(FileNotFoundError, match=r"no image '9' among 3 \(such as '1', '2', '3'\)"):
        images.read("9")


def test_missing_lists_each_key_once_in_order(images):
    assert images.missing(["9", "2", "1", "2", "3"]) == ["9", "2", "3"]
    assert images.missing([]) == []


def test_the_stamp_changes_with_the_file_and_reads_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    images = ImageFiles(tmp_path, {"a": path.name})
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    before = images.stamp("a")
    assert images.stamp("a") == before
    path.write_bytes(b"other")
    assert images.stamp("a") != before
    with pytest.raises(FileNotFoundError, match="'b'"):
        images.stamp("b")


def one_file(folder: Path, content: bytes):
    (folder / "a.jpg").write_bytes(content)


def one_tar(folder: Path, content: bytes):
    with tarfile.open(folder / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def tar_images(folder: Path) -> TarImages:
    place = np.array([0], np.uint32), np.array([512], np.uint64), np.array([3], np.uint32)
    return TarImages([folder / "a.tar"], pa.array(["a/a"]), *place)


@pytest.mark.parametrize(
    ("write", "source", "key"),
    [
        (one_file, lambda folder: ImageFiles(folder, {"a": "a.jpg"}), "a"),
        (one_file, ImageFiles, "a.jpg"),
        (one_tar, tar_images, "a/a"),
    ],
)
def test_a_changed_image_has_another_stamp(tmp_path, write, source, key):
    write(tmp_path, b"one")
    images = source(tmp_path)
    assert images.modality == "real" and images.read(key) == b"one"
    before = images.stamp(key)
    assert images.stamp(key) == before
    write(tmp_path, b"another" * 3000)
    assert images.stamp(key) != before
    with pytest.raises(FileNotFoundError, match="'b'"):
        images.stamp("b")
