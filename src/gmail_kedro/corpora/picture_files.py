"""Which pictures of a corpus can be used by the names that its files give them; the others are counted."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import decode_texts
from gmail_kedro.corpora.tree import TreeImages

MISSING = "picture that is not there"
ESCAPING = r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x{0}"
IDLE = r"(?:/\.?)+$|(^|/)(?:\.?/)+"  # ./a.jpg, b//a.jpg, b/./a.jpg and a.jpg/
NAMELESS = r"^[\s\pZ./]*$"


def find_pictures(
    paths: pa.Array, labels: pa.Array, pictures: TreeImages, skipped: Skipped, *, skip_missing: bool
) -> tuple[pa.Array, pa.Array]:
    """Returns the pictures' paths, one form for one file (``a.jpg`` for ``./a.jpg``), and which can be used, bool.

    Args:
        paths: Paths below the images folder as the corpus writes them, strings or bytes, nulls among them.
        labels: What tells a person which entry is meant.
        pictures: Where they should be.
        skipped: Takes the counts of those that cannot be used.
        skip_missing: Leave out, and count, those that are not there.
    """
    paths = decode_texts(paths)[0]
    escaping = pc.fill_null(pc.match_substring_regex(paths, ESCAPING), False)
    absent = pc.and_not(pc.fill_null(pc.match_substring_regex(paths, NAMELESS), True), escaping)
    for reason, fault, shown in (
        ("no file name", absent, labels),
        ("file name that leads out of the images folder", escaping, paths),
    ):
        skipped.add_all(reason, shown.filter(fault).to_pylist())
    usable = pc.invert(pc.or_(absent, escaping))
    paths = pc.replace_substring_regex(paths, pattern=IDLE, replacement=r"\1")
    if skip_missing:
        folder = pictures.folder
        rows = zip(paths.to_pylist(), usable.to_pylist(), strict=True)
        there = [is_usable and is_there(folder / path, path, skipped, skip_missing=True) for path, is_usable in rows]
        usable = pa.array(there, pa.bool_())
    return paths, usable


def is_there(path: Path, label: str, skipped: Skipped, *, skip_missing: bool) -> bool:
    """Returns whether a picture is taken: it is there, or absent ones are not to be left out here.

    Args:
        path: Its file.
        label: What the count calls it.
        skipped: Takes the count.
        skip_missing: Leave it out, and count it, if it is not there.
    """
    if not skip_missing:
        return True
    skipped.allow(MISSING)
    if path.is_file():
        return True
    skipped.add(MISSING, label)
    return False
