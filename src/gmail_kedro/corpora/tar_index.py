"""Finds the pictures and captions of one WebDataset tar by reading its headers; nothing is ever extracted."""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gmail_kedro.corpora.skipping import Skipped

PICTURE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MAX_PICTURE_BYTES = 64 * 2**20
MAX_TEXT_BYTES = 2**20
_NAME = re.compile(r"(?P<key>(?:[^/]*/)*[^/.]+)\.(?P<extension>[^/]+)")


@dataclass
class TarIndex:
    """What one tar holds.

    Attributes:
        keys: The samples that have a picture and a caption, in the order of their first members.
        captions: Their captions, as bytes.
        offsets: First byte of each picture.
        sizes: Bytes of each picture.
        skipped: Samples that cannot be used, by reason.
        fault: Why the tar could not be read to its end, or None.
    """

    keys: list[str] = field(default_factory=list)
    captions: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    fault: str | None = None


@dataclass
class _Sample:
    """What was found of one sample: where its picture lies, and its caption."""

    picture: tuple[int, int] | None = None
    caption: bytes | None = None
    fault: str | None = None


def index_tar(path: Path, *, caption_key: str | None = None, text_extension: str = "txt") -> TarIndex:
    """Returns the samples of a tar; those before a cut or a damage are kept.

    Members whose names are equal up to the first dot are one sample, as WebDataset has it.

    Args:
        path: The tar, not compressed.
        caption_key: Key of the caption in the sample's ``.json``; None takes its text member whole.
        text_extension: Extension of the text member: ``txt``, or ``cls`` where it is a class's number.
    """
    index = TarIndex()
    samples: dict[str, _Sample] = {}
    with path.open("rb") as file:
        try:
            for member in _members(file):
                _take(member, samples, file, index.skipped, caption_key, text_extension)
        except (tarfile.TarError, OSError, EOFError, UnicodeError, ValueError) as error:
            index.fault = f"{type(error).__name__}: {error}"
    for key, sample in samples.items():
        fault = sample.fault or _missing(sample)
        if fault is not None:
            index.skipped.add(fault, f"{path.name}:{key}")
        elif sample.picture is not None and sample.caption is not None:
            index.keys.append(key)
            index.captions.append(sample.caption)
            index.offsets.append(sample.picture[0])
            index.sizes.append(sample.picture[1])
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
    member: tarfile.TarInfo,
    samples: dict[str, _Sample],
    file: BinaryIO,
    skipped: Skipped,
    caption_key: str | None,
    text_extension: str,
) -> None:
    """Adds a member to its sample."""
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    match = _NAME.fullmatch(name)
    if match is None or name.startswith("/") or ".." in name.split("/"):
        if not name.rpartition("/")[2].startswith((".", "__")):  # hidden files and WebDataset's own marks
            skipped.add("member with an unusable name", repr(name))
        return
    extension = match["extension"].lower()
    is_picture = extension in PICTURE_EXTENSIONS
    if not is_picture and extension != (text_extension if caption_key is None else "json"):
        return
    sample = samples.setdefault(match["key"], _Sample())
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        sample.fault = "member that is a link, a device or sparse"
    elif (sample.picture if is_picture else sample.caption) is not None:
        sample.fault = "member that occurs twice"
    elif member.size > (MAX_PICTURE_BYTES if is_picture else MAX_TEXT_BYTES):
        sample.fault = "member that is too large"
    elif is_picture:
        sample.picture = (member.offset_data, member.size)
    else:
        file.seek(member.offset_data)
        sample.caption, fault = _caption(file.read(member.size), caption_key)
        sample.fault = sample.fault or fault


def _caption(content: bytes, caption_key: str | None) -> tuple[bytes | None, str | None]:
    if caption_key is None:
        return content.removeprefix(b"\xef\xbb\xbf"), None
    try:
        caption = json.loads(content)[caption_key]
        return caption.encode(), None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, f"json without a caption {caption_key!r}"


def _missing(sample: _Sample) -> str | None:
    if sample.picture is None:
        return "caption without a picture"
    if sample.picture[1] == 0:
        return "empty picture"
    return "picture without a caption" if sample.caption is None else None
