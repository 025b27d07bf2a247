"""Files that were made together: whole or not there, in place of their like only, and held against their checksums."""

from pathlib import Path

import pytest

from gmail_kedro import whole_files
from gmail_kedro.mini.world import written_folder
from gmail_kedro.mini.world.written_folder import open_folder, write_folder
from gmail_kedro.whole_files import SUMS

FILES = {"world.json": b"{}", "images/a.jpg": b"one", "images/test/b.jpg": b"two"}
REMEDY = "Write it again: kedro run --pipeline=mini_world"


def _open(folder: Path):
    return open_folder(folder, remedy=REMEDY, later="images/")


def test_what_is_there_already_is_left_alone(tmp_path):
    folder = tmp_path / "world"
    assert write_folder(folder, FILES)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert not write_folder(folder, FILES)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    assert sorted(_open(folder).names) == sorted(FILES)


@pytest.mark.parametrize("damage", [b"tw", None])
def test_a_damaged_or_incomplete_folder_is_refused_and_written_again(tmp_path, damage):
    folder = tmp_path / "world"
    write_folder(folder, FILES)
    for name, content in FILES.items():
        (folder / name).unlink() if damage is None else (folder / name).write_bytes(damage)
        expected = (
            rf"{name} is not there, .*{REMEDY}" if damage is None else rf"{name} is not what was written: .*{REMEDY}"
        )
        with pytest.raises((FileNotFoundError, ValueError), match=expected):
            files = _open(folder)
            files.read(folder / name)
        assert write_folder(folder, FILES)
        assert (folder / name).read_bytes() == content


def test_images_are_checked_when_they_are_read(tmp_path):
    write_folder(tmp_path / "world", FILES)
    (tmp_path / "world/images/a.jpg").write_bytes(b"other")
    files = _open(tmp_path / "world")
    assert files.read(tmp_path / "world/images/test/b.jpg") == b"two"
    with pytest.raises(ValueError, match="a.jpg is not what was written"):
        open_folder(tmp_path / "world", remedy=REMEDY)


def test_a_folder_without_checksums_of_an_earlier_version_is_written_again(tmp_path):
    folder = tmp_path / "world"
    write_folder(folder, FILES)
    (folder / SUMS).unlink()
    with pytest.raises(FileNotFoundError, match=rf"is not complete: it has no {SUMS}. {REMEDY}"):
        _open(folder)
    assert write_folder(folder, FILES)
    _open(folder)


def test_an_older_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "world"
    write_folder(folder, FILES | {"annotations/captions.json": b"[]"})
    (folder / ".gitkeep").touch()
    write_folder(folder, FILES)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*FILES, SUMS}
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"must be empty or hold a mini world.*It also holds \['thesis.tex'\]"):
        write_folder(tmp_path, FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileExistsError, match="needs a folder at .*Got a file"):
        write_folder(tmp_path / "thesis.tex", FILES)


def test_an_interrupted_folder_is_not_there(tmp_path, monkeypatch):
    write_folder(tmp_path / "world", FILES)

    def break_off(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(written_folder, "know_folder", break_off)
    for name in ("world", "new"):
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path / name, {"world.json": b"other"})
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    assert (tmp_path / "world/world.json").read_bytes() == FILES["world.json"]


def test_the_older_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write_folder(tmp_path / "world", FILES)
    rename = whole_files.os.rename

    def fail_for_the_new(source, target):
        if Path(source).name.endswith(".partial") and ".older" not in Path(source).name:
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(whole_files.os, "rename", fail_for_the_new)
    with pytest.raises(PermissionError):
        write_folder(tmp_path / "world", {"world.json": b"other"})
    monkeypatch.undo()
    assert not write_folder(tmp_path / "world", FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
