"""Shards: tar files of generated pictures that WebDataset reads, written so that a kill loses no finished batch.

A shard starts with ``__shard__`` (which carries its fingerprint; WebDataset skips such names) and holds two
members a picture, ``<base>.jpg`` and ``<base>.json``, in plan order. Headers carry no time and no owner, so equal
records give equal bytes. Nothing is ever extracted.

Pictures that are refused go into a tar of the same layout and name in ``quarantine/`` beside the shard, each with a
``reason``; a shard that lacks them says in its header how many they are.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from gmail_kedro.generated_sets import tar_layout
from gmail_kedro.generated_sets.keys import member_base
from gmail_kedro.generated_sets.tar_layout import Header, ShardError, jpeg_sha256
from gmail_kedro.interfaces import ImageRecord

UNFINISHED, PARTIAL = ".unfinished", ".partial"
QUARANTINE = "quarantine"

__all__ = [
    "QUARANTINE",
    "ShardError",
    "ShardWriter",
    "index_shard",
    "jpeg_sha256",
    "probe_shard",
    "read_facts",
    "read_fingerprint",
    "read_shard",
]


class ShardBusyError(RuntimeError):
    """Another process is writing the shard."""


def read_shard(path: Path) -> Iterator[ImageRecord]:
    """Yields the pictures of a finished shard in order, one in memory at a time, each checked against its hash.

    Raises:
        ShardError: If the file is no shard, is truncated, or a member has a path in its name, is a link, a
            device, a duplicate or too large, or its bytes do not match its hash.
    """
    with Path(path).open("rb") as file:
        start = tar_layout.read_header(file, path).end
        for entry in tar_layout.read_entries(file, path, start):
            yield tar_layout.read_record(file, path, entry)


def read_facts(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON of each picture of a finished shard without reading the pictures.

    Raises:
        ShardError: As ``read_shard``, but the pictures' hashes are not checked.
    """
    with Path(path).open("rb") as file:
        start = tar_layout.read_header(file, path).end
        for entry in tar_layout.read_entries(file, path, start):
            yield tar_layout.read_entry_facts(file, path, entry)


def index_shard(path: Path) -> dict[str, tuple[int, int]]:
    """Returns the offset and size in bytes of each JPEG of a finished shard, by key; reads headers only.

    Raises:
        ShardError: As ``read_shard``, but contents are not checked.
    """
    with Path(path).open("rb") as file:
        start = tar_layout.read_header(file, path).end
        entries = tar_layout.read_entries(file, path, start)
        return {entry.key: (entry.jpeg.offset, entry.jpeg.size) for entry in entries}


def read_fingerprint(path: Path) -> str:
    """Returns the fingerprint a shard was written with.

    Raises:
        ShardError: If the file does not start as a shard does.
    """
    with Path(path).open("rb") as file:
        return tar_layout.read_header(file, path).fingerprint


def probe_shard(path: Path) -> Header:
    """Returns what a shard says of itself; reads its start and its end only.

    Raises:
        FileNotFoundError: If there is none.
        ShardError: If the file does not start or does not end as a shard does.
    """
    with Path(path).open("rb") as file:
        tar_layout.check_end(file, path)
        return tar_layout.read_header(file, path)


class ShardWriter:
    """Writes one shard, batch by batch, and picks up where a killed process left it.

    Until ``finish`` the shard is ``<path>.unfinished``. Constructed over such a file with the same fingerprint,
    the writer keeps its complete leading records and cuts off the rest; otherwise it starts anew.

    Args:
        path: Where the finished shard goes.
        keys: The key of every record, in order.
        fingerprint: Hash of everything that decides the records.

    Raises:
        ValueError: If a key is malformed or repeated.
        RuntimeError: If another process is writing this shard.

    Attributes:
        path: Where the finished shard goes.
    """

    def __init__(self, path: Path, keys: Sequence[str], fingerprint: str) -> None:
        self.path = Path(path)
        self._keys = list(keys)
        if len({member_base(key) for key in self._keys}) != len(self._keys):
            raise ValueError(f"The keys of shard {self.path} repeat; every picture needs a key of its own.")
        self._unfinished = self.path.with_name(self.path.name + UNFINISHED)
        self._fingerprint = fingerprint
        self._file = _open_alone(self._unfinished)
        # Byte after the header, then after each complete record.
        self._ends = self._find_complete(fingerprint)
        if not self._ends:
            header = tar_layout.encode_header(fingerprint)
            self._file.truncate(0)
            _write_at(self._file, 0, header)
            self._ends = [len(header)]
        self._file.truncate(self._ends[-1])

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def written_count(self) -> int:
        """How many records are completely in the file."""
        return len(self._ends) - 1

    def read(self) -> Iterator[ImageRecord]:
        """Yields the records that are in the file, in order."""
        for key, start in zip(self._keys, self._ends[:-1], strict=False):
            yield tar_layout.read_record_at(self._file, self._unfinished, key, start)

    def rewind(self, count: int) -> None:
        """Drops every record after the first ``count``.

        Raises:
            ValueError: If there are not that many.
        """
        if not 0 <= count <= self.written_count:
            raise ValueError(f"Shard {self.path} has {self.written_count} records; it cannot be cut to {count}.")
        del self._ends[count + 1 :]
        self._file.truncate(self._ends[-1])

    def append(self, records: Sequence[ImageRecord]) -> None:
        """Writes the next records; when it returns they outlive the process.

        Raises:
            ValueError: If the records are not the next ones, are too large, or their facts use a reserved name.
            OSError: If the disk refuses; what was written before is kept.
        """
        expected = self._keys[self.written_count : self.written_count + len(records)]
        found = [record.key for record in records]
        if found != expected:
            raise ValueError(f"Shard {self.path} expects the records {expected} next. Got {found} instead.")
        blocks = [tar_layout.encode_record(record) for record in records]
        self._file.truncate(self._ends[-1])
        _write_at(self._file, self._ends[-1], b"".join(blocks))
        for block in blocks:
            self._ends.append(self._ends[-1] + len(block))

    def finish(self, refused: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Closes the shard and gives it its name.

        Args:
            refused: The records that must not be in the shard, by key, and what to add to the facts of each
                (``reason`` and ``detail``); they go into ``quarantine/``, which is there before the shard is.

        Raises:
            ValueError: If records are missing.
            OSError: If the disk refuses; the unfinished file is kept.
        """
        if self.written_count != len(self._keys):
            raise ValueError(
                f"Shard {self.path} has {self.written_count} of {len(self._keys)} records; "
                f"append {self._keys[self.written_count]!r} before it is finished."
            )
        self._file.truncate(self._ends[-1])
        if refused:
            self._split(refused)
        else:
            _write_at(self._file, self._ends[-1], tar_layout.END)
            os.fsync(self._file.fileno())
            os.replace(self._unfinished, self.path)
        self.close()

    def close(self) -> None:
        """Lets go of the file; an unfinished shard stays on disk to be resumed."""
        self._file.close()

    def _split(self, refused: Mapping[str, Mapping[str, str]]) -> None:
        """Writes the refused records and the others into two files, then drops the one that has both."""
        quarantine = self.path.parent / QUARANTINE / self.path.name
        quarantine.parent.mkdir(exist_ok=True)
        records = (record for record in self.read() if record.key in refused)
        marked = (replace(record, facts={**record.facts, **refused[record.key]}) for record in records)
        _write_whole(quarantine, tar_layout.encode_header(self._fingerprint), map(tar_layout.encode_record, marked))
        accepted = (tar_layout.encode_record(record) for record in self.read() if record.key not in refused)
        _write_whole(self.path, tar_layout.encode_header(self._fingerprint, len(refused)), accepted)
        os.unlink(self._unfinished)

    def _find_complete(self, fingerprint: str) -> list[int]:
        """Returns where the header and each complete leading record end; nothing if the file is of no use."""
        ends: list[int] = []
        try:
            header = tar_layout.read_header(self._file, self._unfinished)
            if header.fingerprint != fingerprint:
                return []
            ends.append(header.end)
            entries = tar_layout.read_entries(self._file, self._unfinished, header.end)
            for key, entry in zip(self._keys, entries, strict=False):
                if tar_layout.read_record(self._file, self._unfinished, entry).key != key:
                    break
                ends.append(entry.facts.end)
        except ShardError:
            pass  # the torn tail that a killed process leaves
        return ends


def _open_alone(path: Path) -> BinaryIO:
    """Opens a file for reading and writing, unbuffered, and locks it; the kernel unlocks it if the process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    file = os.fdopen(descriptor, "r+b", buffering=0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, the other process may have finished the shard and renamed this very file.
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError) as error:
        file.close()
        raise ShardBusyError(f"Shard {path} is being written by another process; wait for it or stop it.") from error
    return file


def _write_whole(path: Path, header: bytes, blocks: Iterable[bytes]) -> None:
    """Writes a tar that is there as a whole or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb", buffering=0) as file:
        for block in chain([header], blocks, [tar_layout.END]):
            _write_at(file, file.tell(), block)
        os.fsync(file.fileno())
    os.replace(partial, path)


def _write_at(file: BinaryIO, offset: int, content: bytes) -> None:
    file.seek(offset)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
