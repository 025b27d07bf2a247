"""Finds the images and texts of a WebDataset tar by its headers, and reads images from their place in it.

Nothing is ever extracted: of a tar's 10,000 members only the texts are read, and a name such as ``../x`` does no harm.
The library webdataset streams tars from front to back; here captions are wanted at once, and images in any order.
"""

import glob
import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from gmail_kedro.corpora.find_files import require_file
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.images.decoding import IMAGE_ENDINGS, UNREAD_ENDINGS, file_ending, unread_format
from gmail_kedro.images.image_files import file_stamp

MAX_IMAGE_BYTES = 64 * 2**20
MAX_TEXT_BYTES = 2**20
HASHED_ROWS = 65_536
_NAME = re.compile(r"(?P<key>(?:[^/]*/)*[^/.]+)\.(?P<field>[^/]+)")


class TarSample(NamedTuple):
    """A sample that has an image and a text; ``offset`` and ``size`` are the image's place in the tar, in bytes."""

    key: str
    text: bytes
    offset: int
    size: int


@dataclass
class TarIndex:
    """What one tar holds."""

    samples: list[TarSample] = field(default_factory=list)  # that can be used, in the order of their first members
    skipped: Skipped = field(default_factory=Skipped)
    fault: str | None = None  # why the tar could not be read to its end


@dataclass(slots=True)
class _Members:
    """What was found of one sample, by what follows the first dot of a name: ``jpg``, or ``input.jpg``."""

    images: dict[str, tuple[int, int]] = field(default_factory=dict)  # first byte, and how many
    texts: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


def find_tars(pattern: str | Path, *, name: str, home: str) -> list[Path]:
    """Returns the tars of a pattern, by name; refuses a pattern that finds none."""
    found = [Path(path) for path in sorted(glob.glob(str(pattern)))]
    return found or [require_file(Path(pattern), name=name, home=home)]


def index_tar(path: Path, *, text_ending: str = "txt") -> TarIndex:
    """Returns the samples of a tar; those before a cut or a damage are kept.

    Members whose names are equal up to the first dot are one sample, as WebDataset has it. An image is ``key.jpg``
    or, where no name is so short, ``key.input.jpg``; a text likewise. Other members of a whole sample are not read.

    Args:
        path: The tar, not compressed.
        text_ending: Ending of the text: ``txt``, ``json`` where the caption is in it, ``cls`` for a class's number.
    """
    index = TarIndex()
    found: dict[str, _Members] = {}
    with path.open("rb") as file:
        try:
            for member in _read_headers(file):
                _take(member, found, file, index.skipped, text_ending)
        except (tarfile.TarError, OSError, EOFError, UnicodeError, ValueError) as error:
            index.fault = f"{type(error).__name__}: {error}"
    for key, members in found.items():
        images, texts = _shortest(members.images), _shortest(members.texts)
        if (fault := _fault(members, images, texts)) is not None:
            names = ", ".join([*members.images, *members.texts, *members.others][:5])
            index.skipped.add(fault, f"{path.name}:{key} ({names})")
        else:
            index.samples.append(TarSample(key, members.texts[texts[0]], *members.images[images[0]]))
    return index


def _read_headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yields the members of an uncompressed tar, and refuses one that does not end as a tar ends."""
    size = file.seek(0, 2)
    file.seek(0)
    # "r:" refuses a compressed tar, which could unpack to any size; tarfile takes a cut at a header for the end.
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
    member: tarfile.TarInfo, found: dict[str, _Members], file: BinaryIO, skipped: Skipped, text_ending: str
) -> None:
    """Adds a member to its sample."""
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    last = name.rpartition("/")[2]
    if last.startswith(".") or (last.startswith("__") and last.endswith("__")):
        return  # hidden files, and WebDataset's own marks
    # WebDataset's rule: a/b.c.jpg is the field c.jpg of the sample a/b.
    match = _NAME.fullmatch(name)
    if match is None or name.startswith("/") or ".." in name.split("/"):
        skipped.add("member with an unusable name", repr(name))
        return
    members = found.setdefault(match["key"], _Members())
    named, ending = match["field"].lower(), file_ending(last)
    is_image = ending in IMAGE_ENDINGS
    if not is_image and ending != text_ending:
        members.others.append(named)
        return
    is_new = named not in members.images and named not in members.texts
    if is_image:
        members.images[named] = member.offset_data, member.size
    else:
        members.texts[named] = b""
    if not is_new:
        members.faults[named] = "member that occurs twice"
    elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        members.faults[named] = "member that is a link, a device or sparse"
    elif member.size > (MAX_IMAGE_BYTES if is_image else MAX_TEXT_BYTES):
        members.faults[named] = "member that is too large"
    elif is_image and member.size == 0:
        members.faults[named] = "empty image"
    elif not is_image:
        file.seek(member.offset_data)
        members.texts[named] = file.read(member.size)


def _shortest(names: Collection[str]) -> list[str]:
    """Returns the names without a dot, or all where every one has a dot."""
    return [name for name in names if "." not in name] or list(names)


def _fault(members: _Members, images: list[str], texts: list[str]) -> str | None:
    """Returns why a sample cannot be used, given what could be its image and its text."""
    # Only of what would be taken: a faulty x.seg.jpg does not spoil x.jpg.
    faults = [members.faults[name] for name in (*images, *texts) if name in members.faults]
    unread = [ending for name in members.others if (ending := file_ending(f"x.{name}")) in UNREAD_ENDINGS]
    if faults:
        return faults[0]
    if not images and unread:
        return unread_format(unread[0])
    if not images:
        return "caption without an image" if texts else "sample with neither an image nor a caption of a known ending"
    if not texts:
        return "image without a caption"
    if len(images) > 1 or len(texts) > 1:
        return "several images or captions whose names are equal up to the first dot"
    return None


@dataclass(frozen=True, eq=False)
class TarImages:
    """Encoded real images in tars, each read from its place (an ``ImageSource``). Nothing stays open."""

    modality: ClassVar[str] = "real"  # an encoder on the student's route of generated images refuses them
    tars: Sequence[Path]
    keys: pa.Array  # "name of the tar/key of the sample" [N]
    tar_numbers: np.ndarray  # position of each image's tar, uint32 [N]
    offsets: np.ndarray  # first byte of each image, uint64 [N]
    sizes: np.ndarray  # bytes of each image, uint32 [N]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, key: str) -> bytes:
        """Returns the encoded image.

        Raises:
            FileNotFoundError: If there is no such image, or its tar is gone.
            ValueError: If the tar was cut short since it was indexed.
        """
        row = self._find(key)
        tar, size = self.tars[self.tar_numbers[row]], int(self.sizes[row])
        with tar.open("rb") as file:  # opened anew each time: the source goes to worker processes
            file.seek(int(self.offsets[row]))
            content = file.read(size)
        if len(content) != size:
            raise ValueError(f"The image {key!r} ends beyond '{tar}', which was cut short. Fetch the tar again.")
        return content

    def stamp(self, key: str) -> str:
        """Returns what changes when the image does, without reading it: its tar's stamp, and its place in it."""
        row = self._find(key)
        return f"{file_stamp(self.tars[self.tar_numbers[row]])} {self.offsets[row]} {self.sizes[row]}"

    def size(self, key: str) -> int:
        """Returns the bytes of an image, without reading it."""
        return int(self.sizes[self._find(key)])

    def _find(self, key: str) -> int:
        row = self._rows.find(key)
        if row is None:
            known = self.keys[0].as_py() if len(self) else None
            raise FileNotFoundError(f"There is no image {key!r} among the {len(self)} in the tars, such as {known!r}.")
        return row

    @cached_property
    def _rows(self) -> "KeyRows":
        return KeyRows(self.keys)


class KeyRows:
    """Rows of keys in a column, found by their sorted hashes: 16 bytes a key, where a dictionary takes over 100."""

    def __init__(self, keys: pa.Array) -> None:
        self._keys = keys
        starts = range(0, len(keys), HASHED_ROWS)
        blocks = [_hash(keys.slice(start, HASHED_ROWS).to_pylist()) for start in starts]
        hashes = np.concatenate([np.zeros(0, np.uint64), *blocks])
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, key: str) -> int | None:
        """Returns the row of the first such key, or None."""
        wanted = _hash([key])[0]
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._order[place])
            if self._keys[row].as_py() == key:  # two keys may share a hash
                return row
            place += 1
        return None


def _hash(keys: list[str]) -> np.ndarray:
    from pandas.util import hash_array

    return hash_array(np.array(keys, dtype=object), categorize=False)
