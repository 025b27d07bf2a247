"""Hashes of weight files: right, remembered only for large files, and learnt anew when a file changes."""

import hashlib
import os

import pytest

from gmail_kedro.models import file_hashes
from gmail_kedro.models.file_hashes import combine_hashes, hash_files, memory_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a large file of weights and a small one, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "LARGE_BYTES", 100)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "large.safetensors").write_bytes(b"w" * 100)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "README.md").write_bytes(b"not hashed")
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def count_reads(monkeypatch) -> list[str]:
    read, real = [], file_hashes._hash_file

    def counted(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(file_hashes, "_hash_file", counted)
    return read


def test_large_files_are_read_once_and_small_ones_always(folder, monkeypatch):
    read = count_reads(monkeypatch)
    expected = {"config.json": sha256(b"{}"), "large.safetensors": sha256(b"w" * 100)}
    assert hash_files(folder) == hash_files(folder) == expected
    assert read == ["config.json", "large.safetensors", "config.json"]


def test_a_changed_file_is_read_again_even_if_its_time_is_set_back(folder):
    hash_files(folder)
    path = folder / "large.safetensors"
    times = path.stat()
    path.write_bytes(b"v" * 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hash_files(folder)["large.safetensors"] == sha256(b"v" * 100)


def test_remembered_hashes_can_be_left_aside(folder, monkeypatch):
    hash_files(folder)
    read = count_reads(monkeypatch)
    assert hash_files(folder, from_memory=False)["large.safetensors"] == sha256(b"w" * 100)
    assert read == ["config.json", "large.safetensors"]


def test_linked_folders_are_followed_by_every_name_and_circles_are_left(folder, tmp_path):
    part = tmp_path / "elsewhere"
    (part / "deeper").mkdir(parents=True)
    (part / "deeper" / "MODEL.SAFETENSORS").write_bytes(b"t")
    (part / "back").symlink_to(folder)
    (part / "self").symlink_to(part)
    for name in ("text_encoder", "text_encoder_2"):
        (folder / name).symlink_to(part)
    (folder / "nowhere.json").symlink_to(tmp_path / "absent")
    assert hash_files(folder) == {
        "config.json": sha256(b"{}"),
        "large.safetensors": sha256(b"w" * 100),
        "text_encoder/deeper/MODEL.SAFETENSORS": sha256(b"t"),
        "text_encoder_2/deeper/MODEL.SAFETENSORS": sha256(b"t"),
    }


def test_a_damaged_memory_is_replaced(folder):
    memory_file().parent.mkdir(parents=True)
    memory_file().write_text("{half")
    assert hash_files(folder)["large.safetensors"] == sha256(b"w" * 100)
    assert sha256(b"w" * 100) in memory_file().read_text()


def test_a_cache_folder_that_cannot_be_written_costs_only_time(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert hash_files(folder)["large.safetensors"] == sha256(b"w" * 100)


def test_one_hash_over_all_depends_on_names_and_contents():
    base = combine_hashes({"a": "1", "b": "2"})
    assert base == combine_hashes({"b": "2", "a": "1"})
    assert len({base, combine_hashes({"a": "2", "b": "1"}), combine_hashes({"a": "1"})}) == 3
