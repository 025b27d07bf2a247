"""Finds the files of a corpus by the names that a catalog entry and the corpus give them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.caption_text import decode_texts
from gmail_kedro.corpora.skipped_entries import Skipped

MISSING = "image that is not there"
# Absolute paths of either system, drives, and .. anywhere: a table from the web must not name a file of the machine.
ESCAPING = r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x{0}"
IDLE = r"(?:/\.?)+$|(^|/)(?:\.?/)+"  # ./a.jpg, b//a.jpg, b/./a.jpg and a.jpg/
NAMELESS = r"^[\s\pZ./]*$"


def require_folder(folder: Path, *, name: str, home: str) -> Path:
    """Returns the folder of a corpus's images, which must exist; the message says whose it is and comes from where."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The images folder '{folder.absolute()}' of the corpus {name!r} does not exist. "
            f"Unpack the images there, or correct its path in conf/*/catalog*.yml.{_from(home)}"
        )
    return folder


def require_file(path: Path, *, name: str, home: str) -> Path:
    """Returns the annotations file of a corpus, as ``require_folder`` its folder."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The annotations file of the corpus {name!r} '{path.absolute()}' does not exist. "
            f"Put it there, or correct its path in conf/*/catalog*.yml.{_from(home)}"
        )
    return path


def find_images(
    paths: pa.Array, labels: pa.Array, folder: Path, skipped: Skipped, *, skip_missing: bool
) -> tuple[pa.Array, pa.Array]:
    """Returns the images' paths, one form for one file (``a.jpg`` for ``./a.jpg``), and which can be used, bool.

    Args:
        paths: Paths below the images folder as the corpus writes them, strings or bytes, nulls among them.
        labels: What tells a person which entry is meant.
        folder: The images folder.
        skipped: Counts those that cannot be used.
        skip_missing: Leave out, and count, those that are not there.
    """
    paths = decode_texts(paths)[0]
    escaping = pc.fill_null(pc.match_substring_regex(paths, ESCAPING), False)
    absent = pc.and_not(pc.fill_null(pc.match_substring_regex(paths, NAMELESS), True), escaping)
    skipped.add_all("no file name", labels.filter(absent).to_pylist())
    skipped.add_all("file name that leads out of the images folder", paths.filter(escaping).to_pylist())
    usable = pc.invert(pc.or_(absent, escaping))
    # Two spellings of one path would be two images, one of which could be trained on and the other measured.
    paths = pc.replace_substring_regex(paths, pattern=IDLE, replacement=r"\1")
    if skip_missing:
        rows = zip(paths.to_pylist(), usable.to_pylist(), strict=True)
        there = [is_usable and is_there(folder / path, path, skipped, skip_missing=True) for path, is_usable in rows]
        usable = pa.array(there, pa.bool_())
    return paths, usable


def is_there(path: Path, label: str, skipped: Skipped, *, skip_missing: bool) -> bool:
    """Returns whether an image is taken: it is there, or absent ones are not to be left out, and counted, here."""
    if not skip_missing:  # a stat an image is slow over a network, and generation looks anyway
        return True
    skipped.allow(MISSING)
    if path.is_file():
        return True
    skipped.add(MISSING, label)
    return False


def _from(home: str) -> str:
    return f" It comes from: {home}." if home else ""
