"""Files that appear whole or not at all, and are known again.

A process that dies while it writes leaves the old file, or none; a byte that changes later is found on reading.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

SUMS = "SHA256SUMS"  # one a folder, as ``sha256sum --check SHA256SUMS`` reads it


class ChangedFileError(ValueError):
    """A file that is not what was written; the message names it."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the name to write a file under; it becomes the file when the block ends, and is removed if that fails.

    What processes that were killed left of the same file is removed as well.

    Args:
        path: The file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; a machine that stops then loses neither."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def known_file(path: Path) -> Iterator[None]:
    """Notes the sha256 of a file that the block writes in the ``SHA256SUMS`` of its folder.

    The old entry goes first: a process that dies in between leaves a file without an entry and not a wrong entry.
    Whoever writes into the folder does so alone: runs are locked.

    Args:
        path: The file.
    """
    sums = _read_sums(path.parent)
    if sums.pop(path.name, None) is not None:
        _write_sums(path.parent, sums)
    yield
    _write_sums(path.parent, sums | {path.name: _hash(path)})


def refuse_changed(path: Path) -> None:
    """Compares a file with what its folder's ``SHA256SUMS`` says of it; one without an entry passes.

    Args:
        path: A file that is there.

    Raises:
        ChangedFileError: If it has other bytes than were written.
    """
    written, found = _read_sums(path.parent).get(path.name), _hash(path)
    if written not in (None, found):
        raise ChangedFileError(
            f"{path} is not what was written: its sha256 is {found[:12]}, and {SUMS} beside it says {written[:12]}. "
            f"Run the pipeline that writes it again; if you changed it on purpose, take its line out of {SUMS}."
        )


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _write_sums(folder: Path, sums: dict[str, str]) -> None:
    with whole_file(folder / SUMS) as partial:
        partial.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove_left_over(path: Path) -> None:
    for partial in path.parent.glob(f"{path.name}.*.partial"):
        try:
            os.kill(int(partial.name.split(".")[-2]), 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
        except (ValueError, PermissionError):  # of another file or another user
            continue
