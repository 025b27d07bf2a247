"""Reads a folder of images with text files beside them, as people keep their own and img2dataset writes them."""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from gmail_kedro.corpora.caption_table import CaptionBlocks, CaptionTable
from gmail_kedro.corpora.caption_text import caption_lines
from gmail_kedro.corpora.find_files import require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.images.decoding import IMAGE_ENDINGS, UNREAD_ENDINGS, file_ending, unread_format
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.interfaces import SPLITS

BLOCK_ROWS = 16_384
TEXT_ENDINGS = ("txt", "json", "cls")
ALONE = "caption without an image"


def read_image_folder(images: Path, *, name: str, home: str = "") -> CaptionTable:
    """Returns the captions of a folder tree: ``cat.txt`` with ``cat.jpg``, a caption a line.

    An image is called by its path below the folder; a caption by a hash of that path, and the line. Where all
    images lie below folders named train, val or test, those are the splits. Links to folders are followed, hidden
    files left alone; a text, also a ``.json`` or ``.cls``, to which no image belongs is counted.

    Args:
        images: The folder.
        name: What messages call the corpus.
        home: Where the files come from, for messages.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image.
    """
    folder = require_folder(images, name=name, home=home)
    has_splits = _has_splits(folder)
    skipped = Skipped()
    names = ("caption_id", "image_id", "caption", *(["split"] if has_splits else []))
    blocks = CaptionBlocks(names, skipped, label="image_id")
    rows = _captions(folder, skipped)
    while block := list(islice(rows, BLOCK_ROWS)):
        parts = [row + ((row[1].partition("/")[0],) if has_splits else ()) for row in block]
        blocks.add(*(pa.array(column, pa.large_binary()) for column in zip(*map(_encode, parts), strict=True)))
    captions = blocks.frame()
    if captions.empty and not skipped.counts.keys() - {ALONE}:
        raise ValueError(
            f"The folder '{folder.absolute()}' of the corpus {name!r} must hold images "
            f"({', '.join(sorted(IMAGE_ENDINGS))}) with a .txt file of captions beside each. Got none. Correct the "
            "folder, or the layout in the catalog entry."
        )
    return CaptionTable(captions, ImageFiles(folder), skipped)


def walk_folders(top: Path, skipped: Skipped) -> Iterator[tuple[Path, list[str]]]:
    """Yields every folder with the names of its files, both sorted; hidden ones are left alone.

    Links to folders are followed wherever they lead, since many keep their images on another disk. A folder that was
    read already is counted, as is a link that leads to nothing or to a folder around ``top``: so circles end, and no
    image is in two splits.

    Args:
        top: Where the walk begins; may be a link.
        skipped: Where links and folders that cannot be read are counted.
    """
    seen: set[tuple[int, int]] = set()
    around = {_identity(str(folder)) for folder in top.resolve().parents}
    # Folders come before links: what lies at a folder's own place is called by it, whatever else it is called.
    waiting = deque([str(top)])
    while waiting:
        start = waiting.popleft()
        if _identity(start) in around:
            skipped.add("link to a folder around its own", os.path.relpath(start, top))
            continue
        for parent, folders, files in os.walk(start, onerror=lambda error: _count_closed(error, top, skipped)):
            if (identity := _identity(parent)) in seen:
                skipped.add("folder that is read under another name already", os.path.relpath(parent, top))
                folders.clear()
                continue
            seen.add(identity)
            # Sorted in place: os.walk goes on in this order, which differs from disk to disk.
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting.extend(path for name in folders if os.path.islink(path := os.path.join(parent, name)))
            yield Path(parent), [name for name in sorted(files) if _is_file(os.path.join(parent, name), top, skipped)]


def _is_file(path: str, top: Path, skipped: Skipped) -> bool:
    if os.path.basename(path).startswith("."):
        return False
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        skipped.add("link that leads to nothing", os.path.relpath(path, top))
        return False
    if not is_file:  # to open a named pipe would wait for ever
        skipped.add("neither a file nor a folder", os.path.relpath(path, top))
    return is_file


def _count_closed(error: OSError, top: Path, skipped: Skipped) -> None:
    skipped.add("folder that cannot be opened", os.path.relpath(str(error.filename), top))


def _identity(folder: str) -> tuple[int, int]:
    facts = os.stat(folder)
    return facts.st_dev, facts.st_ino


def _captions(folder: Path, skipped: Skipped) -> Iterator[tuple[str, str, bytes]]:
    """Yields the id, the image and the bytes of each caption."""
    for parent, files in walk_folders(folder, skipped):
        place = parent.relative_to(folder)
        texts = _texts_of_images(place, files, skipped)
        for name in files:
            if file_ending(name) not in IMAGE_ENDINGS:
                continue
            relative = (place / name).as_posix()
            text = texts.get(Path(name).stem)
            lines = [] if text is None else caption_lines((parent / text).read_bytes())
            if not lines:
                skipped.add("image without a .txt file beside it" if text is None else "empty caption file", relative)
            # Hashed, not numbered: ids stay when images are added, and generated images are found by them.
            digest = hashlib.sha256(relative.encode(errors="surrogateescape")).hexdigest()[:20]
            for number, line in lines:
                yield f"{digest}-{number}", relative, line or b""


def _texts_of_images(place: Path, files: list[str], skipped: Skipped) -> dict[str, str]:
    """Returns the text of each image by its stem, and counts what has no image, or one that is not read."""
    images = {Path(name).stem for name in files if file_ending(name) in IMAGE_ENDINGS}
    unread = {Path(name).stem: name for name in files if file_ending(name) in UNREAD_ENDINGS}
    for stem, name in unread.items():
        if stem not in images:
            skipped.add(unread_format(file_ending(name)), (place / name).as_posix())
    texts: dict[str, str] = {}
    alone: set[str] = set()
    for name in sorted(files, key=lambda name: not name.endswith(".txt")):  # before .TXT, and before .json
        stem, ending = Path(name).stem, file_ending(name)
        if ending not in TEXT_ENDINGS or stem in unread.keys() - images:
            continue
        if stem not in images:
            if stem not in alone:
                skipped.add(ALONE, (place / name).as_posix())
            alone.add(stem)
        elif ending == "txt" and stem in texts:
            skipped.add("second .txt file beside an image", (place / name).as_posix())
        elif ending == "txt":
            texts[stem] = name
    return texts


def _has_splits(folder: Path) -> bool:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    folders = {entry.name for entry in entries if entry.is_dir()}
    loose = any(file_ending(entry.name) in IMAGE_ENDINGS for entry in entries if entry.is_file())
    return bool(folders) and folders <= set(SPLITS) and not loose


def _encode(row: tuple[str | bytes, ...]) -> list[bytes]:
    # Names of files need not be UTF-8 on Linux.
    return [part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in row]
