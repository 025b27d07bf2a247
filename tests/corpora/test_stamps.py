"""Every source of photographs says that they are real, and knows a changed one without reading it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.corpora.tree import TreeImages
from gmail_kedro.corpora.webdataset import TarImages


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
        (one_file, lambda folder: FolderImages({"a": folder / "a.jpg"}), "a"),
        (one_file, TreeImages, "a.jpg"),
        (one_tar, tar_images, "a/a"),
    ],
)
def test_a_changed_picture_has_another_stamp(tmp_path, write, source, key):
    write(tmp_path, b"one")
    images = source(tmp_path)
    assert images.modality == "real" and images.read(key) == b"one"
    before = images.stamp(key)
    assert images.stamp(key) == before
    write(tmp_path, b"another" * 3000)
    assert images.stamp(key) != before
    with pytest.raises(FileNotFoundError, match="'b'"):
        images.stamp("b")
