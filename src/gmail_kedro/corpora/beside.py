"""Reads a folder of pictures with a text file beside each, as people keep their own and img2dataset writes them."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from gmail_kedro.corpora.columns import CaptionColumns, Reading
from gmail_kedro.corpora.protocols import SPLITS
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.tree import TreeImages, require_folder

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
BLOCK_ROWS = 16_384


def read_folder(images: Path, *, name: str, home: str = "") -> Reading:
    """Returns the captions of a folder tree: ``cat.txt`` beside ``cat.jpg``, a caption a line.

    A picture is called by its path below the folder; a caption by a hash of that path, and the line. Where all
    pictures lie below folders named train, val or test, those are the splits. Hidden files are left alone.

    Args:
        images: The folder.
        name: What messages call the corpus.
        home: Where the files come from, for messages.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no picture.
    """
    folder = require_folder(images, name=name, home=home)
    has_splits = _has_splits(folder)
    skipped = Skipped()
    names = ("caption_id", "image_id", "caption", *(["split"] if has_splits else []))
    columns = CaptionColumns(names, skipped)
    rows = _captions(folder, skipped)
    picture_found = False
    while block := list(islice(rows, BLOCK_ROWS)):
        picture_found = True
        parts = [row + ((row[1].partition("/")[0],) if has_splits else ()) for row in block]
        arrays = [pa.array(column, pa.large_binary()) for column in zip(*map(_encode, parts), strict=True)]
        columns.add(*arrays, label="image_id")
    if not picture_found and not skipped.counts:
        raise ValueError(
            f"The folder '{folder.absolute()}' of the corpus {name!r} must hold pictures "
            f"({', '.join(sorted(PICTURE_SUFFIXES))}) with a .txt file of captions beside each. Got none. Correct the "
            "folder, or the layout in the catalog entry."
        )
    return Reading(columns.frame(), TreeImages(folder), skipped)


def _captions(folder: Path, skipped: Skipped) -> Iterator[tuple[str, str, bytes]]:
    """Yields the id, the picture and the bytes of each caption."""
    for picture in _pictures(folder):
        relative = picture.relative_to(folder).as_posix()
        text = picture.with_suffix(".txt")
        lines = text.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines() if text.is_file() else []
        filled = [(number, line) for number, line in enumerate(lines) if line.strip()]
        if not filled:
            reason = "empty caption file" if text.is_file() else "picture without a .txt file beside it"
            skipped.add(reason, relative)
        digest = hashlib.sha256(relative.encode(errors="surrogateescape")).hexdigest()[:20]
        for number, line in filled:
            yield f"{digest}-{number}", relative, line


def _pictures(folder: Path) -> Iterator[Path]:
    """Yields the pictures of a tree, sorted within each folder, so that the order is the same on every disk."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                yield path


def _has_splits(folder: Path) -> bool:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    folders = {entry.name for entry in entries if entry.is_dir()}
    loose = any(Path(entry.name).suffix.lower() in PICTURE_SUFFIXES for entry in entries if entry.is_file())
    return bool(folders) and folders <= set(SPLITS) and not loose


def _encode(row: tuple[str | bytes, ...]) -> list[bytes]:
    return [part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in row]
