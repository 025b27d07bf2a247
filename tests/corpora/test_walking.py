"""Every folder is walked through once, whatever links lead to it."""

import os

import pytest

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.walking import walk_folders


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
