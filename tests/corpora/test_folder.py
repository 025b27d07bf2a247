"""Pictures on disk are read as they are, and absent ones are named."""

from pathlib import Path

import pytest

from gmail_kedro.corpora.folder import FolderImages


@pytest.fixture
def pictures(tmp_path) -> FolderImages:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "folder.jpg").mkdir()
    names = {"1": "a.jpg", "2": "gone.jpg", "3": "folder.jpg"}
    return FolderImages({key: tmp_path / name for key, name in names.items()})


def test_read_returns_the_bytes(pictures):
    assert pictures.read("1") == b"a"
    assert len(pictures) == 3


@pytest.mark.parametrize(("key", "file"), [("2", "gone.jpg"), ("3", "folder.jpg")])
def test_an_absent_file_is_named(pictures, key, file):
    with pytest.raises(
        FileNotFoundError, match=rf"picture '{key}' should be the file '.*{file}', which does not exist"
    ):
        pictures.read(key)


def test_an_unknown_key_is_named_beside_known_ones(pictures):
    with pytest.raises(FileNotFoundError, match=r"no picture '9' among 3 \(such as '1', '2', '3'\)"):
        pictures.read("9")


def test_missing_lists_each_key_once_in_order(pictures):
    assert pictures.missing(["9", "2", "1", "2", "3"]) == ["9", "2", "3"]
    assert pictures.missing([]) == []


def test_the_stamp_changes_with_the_file_and_reads_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    images = FolderImages({"a": path})
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    before = images.stamp("a")
    assert images.stamp("a") == before
    path.write_bytes(b"other")
    assert images.stamp("a") != before
    with pytest.raises(FileNotFoundError, match="'b'"):
        images.stamp("b")
