"""Reads a folder of pictures with a text file beside each, as people keep their own and img2dataset writes them."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from gmail_kedro.corpora.caption_texts import caption_lines
from gmail_kedro.corpora.columns import CaptionColumns, Reading
from gmail_kedro.corpora.protocols import SPLITS
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.tree import TreeImages, require_folder
from gmail_kedro.corpora.walking import walk_folders
from gmail_kedro.images.decoding import PICTURE_ENDINGS, UNREAD_ENDINGS, file_ending, unread_picture

BLOCK_ROWS = 16_384
TEXT_ENDINGS = ("txt", "json", "cls")
ALONE = "caption without a picture"


def read_folder(images: Path, *, name: str, home: str = "") -> Reading:
    """Returns the captions of a folder tree: ``cat.txt`` beside ``cat.jpg``, a caption a line.

    A picture is called by its path below the folder; a caption by a hash of that path, and the line. Where all
    pictures lie below folders named train, val or test, those are the splits. Links to folders are followed, hidden
    files left alone; a text, also a ``.json`` or ``.cls``, to which no picture belongs is counted.

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
    while block := list(islice(rows, BLOCK_ROWS)):
        parts = [row + ((row[1].partition("/")[0],) if has_splits else ()) for row in block]
        arrays = [pa.array(column, pa.large_binary()) for column in zip(*map(_encode, parts), strict=True)]
        columns.add(*arrays, label="image_id")
    captions = columns.frame()
    if captions.empty and not skipped.counts.keys() - {ALONE}:
        raise ValueError(
            f"The folder '{folder.absolute()}' of the corpus {name!r} must hold pictures "
            f"({', '.join(sorted(PICTURE_ENDINGS))}) with a .txt file of captions beside each. Got none. Correct the "
            "folder, or the layout in the catalog entry."
        )
    return Reading(captions, TreeImages(folder), skipped)


def _captions(folder: Path, skipped: Skipped) -> Iterator[tuple[str, str, bytes]]:
    """Yields the id, the picture and the bytes of each caption."""
    for parent, files in walk_folders(folder, skipped):
        place = parent.relative_to(folder)
        texts = _texts(place, files, skipped)
        for name in files:
            if file_ending(name) not in PICTURE_ENDINGS:
                continue
            relative = (place / name).as_posix()
            text = texts.get(Path(name).stem)
            lines = [] if text is None else caption_lines((parent / text).read_bytes())
            if not lines:
                skipped.add("picture without a .txt file beside it" if text is None else "empty caption file", relative)
            digest = hashlib.sha256(relative.encode(errors="surrogateescape")).hexdigest()[:20]
            for number, line in lines:
                yield f"{digest}-{number}", relative, line or b""


def _texts(place: Path, files: list[str], skipped: Skipped) -> dict[str, str]:
    """Returns the text of each picture by its stem, and counts what has no picture, or one that is not read."""
    pictures = {Path(name).stem for name in files if file_ending(name) in PICTURE_ENDINGS}
    unread = {Path(name).stem: name for name in files if file_ending(name) in UNREAD_ENDINGS}
    for stem, name in unread.items():
        if stem not in pictures:
            skipped.add(unread_picture(file_ending(name)), (place / name).as_posix())
    texts: dict[str, str] = {}
    alone: set[str] = set()
    for name in sorted(files, key=lambda name: not name.endswith(".txt")):  # before .TXT, and before .json
        stem, ending = Path(name).stem, file_ending(name)
        if ending not in TEXT_ENDINGS or stem in unread.keys() - pictures:
            continue
        if stem not in pictures:
            if stem not in alone:
                skipped.add(ALONE, (place / name).as_posix())
            alone.add(stem)
        elif ending == "txt" and stem in texts:
            skipped.add("second .txt file beside a picture", (place / name).as_posix())
        elif ending == "txt":
            texts[stem] = name
    return texts


def _has_splits(folder: Path) -> bool:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    folders = {entry.name for entry in entries if entry.is_dir()}
    loose = any(file_ending(entry.name) in PICTURE_ENDINGS for entry in entries if entry.is_file())
    return bool(folders) and folders <= set(SPLITS) and not loose


def _encode(row: tuple[str | bytes, ...]) -> list[bytes]:
    return [part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in row]
