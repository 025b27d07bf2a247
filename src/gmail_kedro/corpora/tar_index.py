"""Finds the pictures and texts of one WebDataset tar by reading its headers; nothing is ever extracted."""

import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.images.decoding import PICTURE_ENDINGS, UNREAD_ENDINGS, file_ending, unread_picture

MAX_PICTURE_BYTES = 64 * 2**20
MAX_TEXT_BYTES = 2**20
_NAME = re.compile(r"(?P<key>(?:[^/]*/)*[^/.]+)\.(?P<field>[^/]+)")


@dataclass
class TarIndex:
    """What one tar holds.

    Attributes:
        keys: The samples that have a picture and a text, in the order of their first members.
        texts: Their texts, as bytes.
        offsets: First byte of each picture.
        sizes: Bytes of each picture.
        skipped: Samples that cannot be used, by reason.
        fault: Why the tar could not be read to its end, or None.
    """

    keys: list[str] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    fault: str | None = None


@dataclass(slots=True)
class _Sample:
    """What was found of one sample, by what follows the first dot of a name: ``jpg``, or ``input.jpg``.

    Attributes:
        pictures: Where each picture lies, and its bytes.
        texts: What each text says.
        others: What is neither.
        faults: Why pictures and texts cannot be used.
    """

    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


def index_tar(path: Path, *, text_ending: str = "txt") -> TarIndex:
    """Returns the samples of a tar; those before a cut or a damage are kept.

    Members whose names are equal up to the first dot are one sample, as WebDataset has it. A picture is ``key.jpg``
    or, where no name is so short, ``key.input.jpg``; a text likewise. Other members of a whole sample are not read.

    Args:
        path: The tar, not compressed.
        text_ending: Ending of the text: ``txt``, ``json`` where the caption is in it, ``cls`` for a class's number.
    """
    index = TarIndex()
    samples: dict[str, _Sample] = {}
    with path.open("rb") as file:
        try:
            for member in _members(file):
                _take(member, samples, file, index.skipped, text_ending)
        except (tarfile.TarError, OSError, EOFError, UnicodeError, ValueError) as error:
            index.fault = f"{type(error).__name__}: {error}"
    for key, sample in samples.items():
        pictures, texts = _shortest(sample.pictures), _shortest(sample.texts)
        fault = _fault(sample, pictures, texts)
        if fault is not None:
            members = ", ".join([*sample.pictures, *sample.texts, *sample.others][:5])
            index.skipped.add(fault, f"{path.name}:{key} ({members})")
            continue
        offset, size = sample.pictures[pictures[0]]
        index.keys.append(key)
        index.texts.append(sample.texts[texts[0]])
        index.offsets.append(offset)
        index.sizes.append(size)
    return index


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yields the members of an uncompressed tar, and refuses one that does not end as a tar ends."""
    size = file.seek(0, 2)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", errors="strict") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would remember them all
            if member.offset_data + member.size > size and member.isreg():
                raise tarfile.ReadError(f"the file ends within the member {member.name!r}")
            yield member
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end mark at byte {tar.offset}, where the last whole member ends")


def _take(
    member: tarfile.TarInfo, samples: dict[str, _Sample], file: BinaryIO, skipped: Skipped, text_ending: str
) -> None:
    """Adds a member to its sample."""
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    last = name.rpartition("/")[2]
    if last.startswith(".") or (last.startswith("__") and last.endswith("__")):
        return  # hidden files, and WebDataset's own marks
    match = _NAME.fullmatch(name)
    if match is None or name.startswith("/") or ".." in name.split("/"):
        skipped.add("member with an unusable name", repr(name))
        return
    sample = samples.setdefault(match["key"], _Sample())
    named, ending = match["field"].lower(), file_ending(last)
    is_picture = ending in PICTURE_ENDINGS
    if not is_picture and ending != text_ending:
        sample.others.append(named)
        return
    is_new = named not in sample.pictures and named not in sample.texts
    if is_picture:
        sample.pictures[named] = member.offset_data, member.size
    else:
        sample.texts[named] = b""
    if not is_new:
        sample.faults[named] = "member that occurs twice"
    elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        sample.faults[named] = "member that is a link, a device or sparse"
    elif member.size > (MAX_PICTURE_BYTES if is_picture else MAX_TEXT_BYTES):
        sample.faults[named] = "member that is too large"
    elif is_picture and member.size == 0:
        sample.faults[named] = "empty picture"
    elif not is_picture:
        file.seek(member.offset_data)
        sample.texts[named] = file.read(member.size)


def _shortest(names: Collection[str]) -> list[str]:
    """Returns the names without a dot, or all where every one has a dot."""
    return [name for name in names if "." not in name] or list(names)


def _fault(sample: _Sample, pictures: list[str], texts: list[str]) -> str | None:
    """Returns why a sample cannot be used, given what could be its picture and its text."""
    faults = [sample.faults[name] for name in (*pictures, *texts) if name in sample.faults]
    unread = [ending for ending in map(file_ending, map("x.{}".format, sample.others)) if ending in UNREAD_ENDINGS]
    if faults:
        return faults[0]
    if not pictures and unread:
        return unread_picture(unread[0])
    if not pictures:
        return "caption without a picture" if texts else "sample with neither a picture nor a caption of a known ending"
    if not texts:
        return "picture without a caption"
    if len(pictures) > 1 or len(texts) > 1:
        return "several pictures or captions whose names are equal up to the first dot"
    return None
