"""Files that appear whole or not at all, and are known again.

A process that dies while it writes leaves the old file, or none; a byte that changes later is found on reading and not
in a result. Tensors carry their checksum in the file: plain safetensors, whose header holds the writer's facts and a
sha256 over facts and tensors. Other files have it in the ``SHA256SUMS`` of their folder. For folders of files that
libraries write see ``models.fingerprints``.
"""

import contextlib
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
FACTS_KEY, CHECKSUM_KEY = "facts", "sha256"  # of a file of tensors
SUMS = "SHA256SUMS"  # one a folder, as ``sha256sum --check SHA256SUMS`` reads it
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n")


class DamagedFileError(ValueError):
    """A file that is not what was written; the message names it."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives the name to write a file under; it becomes the file when the block ends, and is removed if that fails.

    What processes of this machine that were killed left of the same file is removed as well.

    Args:
        path: The file; its folder is made.
    """
    partial = _partial_name(path)
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        # The new name is an entry of the folder: without this it may be lost with the machine, the bytes on the disk.
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Gives a new folder to fill; it takes the folder's place when the block ends, and is removed if that fails.

    Args:
        folder: The folder; an older one is there until the new one is whole.
    """
    partial = _partial_name(folder)
    partial.mkdir()
    older = partial.with_name(partial.name.replace(folder.name, f"{folder.name}.older", 1))
    try:
        yield partial
        for path in partial.rglob("*"):
            flush(path)
        if folder.exists():  # a folder that is not empty cannot be replaced in one step
            os.rename(folder, older)
        try:
            os.rename(partial, folder)
        except OSError:
            if older.exists():
                os.rename(older, folder)
            raise
        flush(folder.parent)
        shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; a machine that stops then loses neither."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def known_write(path: Path) -> Iterator[Path]:
    """As ``atomic_write``, and notes the file's sha256 in the ``SHA256SUMS`` of its folder.

    Whoever writes into the folder does so alone: runs are locked.

    Args:
        path: The file; its folder is made.
    """
    with atomic_write(path) as partial:
        yield partial
        digest = hash_file(partial)
        sums, fault = _read_sums(path.parent)
        if fault:
            logger.warning("%s is damaged (%s): files whose lines are lost are not checked.", path.parent / SUMS, fault)
        # The old line goes first: a process that dies in between leaves a file without a line and not a wrong line.
        if sums.pop(path.name, None) is not None or fault:
            _write_sums(path.parent, sums)
    _write_sums(path.parent, sums | {path.name: digest})


def refuse_changed(path: Path) -> bool:
    """Compares a file with what its folder's ``SHA256SUMS`` says of it; returns False where it says nothing.

    Args:
        path: A file that is there.

    Raises:
        DamagedFileError: If it has other bytes than were written, or the ``SHA256SUMS`` is damaged.
    """
    sums, fault = _read_sums(path.parent)
    if not fault and path.name not in sums:
        absent = [name for name in sums if not (path.parent / name).is_file()]
        fault = f"it has a line of {absent[0]}, which is not there, and none of {path.name}" if absent else ""
    if fault:
        raise DamagedFileError(
            f"{path.parent / SUMS} is damaged ({fault}). Delete it to take the files beside it as they are, or run the "
            "pipelines that write them again."
        )
    written, found = sums.get(path.name), hash_file(path)
    if written not in (None, found):
        raise DamagedFileError(
            f"{path} is not what was written: its sha256 is {found[:12]}, and {SUMS} beside it says {written[:12]}. "
            f"Run the pipeline that writes it again; if you changed it on purpose, take its line out of {SUMS}."
        )
    return written is not None


class KnownFolder:
    """Files that were written together, each held against the ``SHA256SUMS`` above them when it is read.

    Args:
        folder: As ``know_folder`` left it.
        remedy: What to do about a file that is not what was written; a sentence.

    Attributes:
        names: The paths of its files in it.

    Raises:
        DamagedFileError: If the ``SHA256SUMS`` is damaged.
    """

    def __init__(self, folder: Path, *, remedy: str) -> None:
        self._folder, self._remedy = folder, remedy
        self._sums, fault = _read_sums(folder)
        if fault:
            raise DamagedFileError(f"{folder / SUMS} is damaged ({fault}). {remedy}")
        self.names = tuple(self._sums)

    def read(self, path: Path) -> bytes:
        """Returns the bytes of a file below the folder.

        Raises:
            FileNotFoundError: If there is no such file.
            DamagedFileError: If it is not what was written, or has no line.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there, of which {SUMS} of its folder tells. {self._remedy}")
        content = path.read_bytes()
        written = self._sums.get(path.relative_to(self._folder).as_posix(), "nothing")
        if written != (found := hashlib.sha256(content).hexdigest()):
            raise DamagedFileError(
                f"{path} is not what was written: its sha256 is {found[:12]}, and {SUMS} of its folder says "
                f"{written[:12]}. {self._remedy}"
            )
        return content


def know_folder(folder: Path) -> None:
    """Notes the sha256 of every file below a folder in its ``SHA256SUMS``, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    _write_sums(folder, {path.relative_to(folder).as_posix(): hash_file(path) for path in files})


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"], facts: Mapping[str, Any] | None = None) -> None:
    """Writes tensors, on any device, and facts (JSON values) with their checksum, atomically.

    Equal tensors and facts give equal bytes. The checksum costs about a second for each gigabyte.
    """
    from safetensors.torch import save_file

    held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    facts = dict(facts or {})
    header = facts | {CHECKSUM_KEY: _checksum(held, facts)}
    # One entry: safetensors writes several in an order that changes from process to process.
    with atomic_write(path) as partial:
        save_file(held, partial, metadata={FACTS_KEY: json.dumps(header, sort_keys=True)})


def read_tensors(path: Path, *, remedy: str) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Returns what ``write_tensors`` wrote, tensors on the CPU and facts, after comparing their checksum.

    Every byte is read once more for it: about a second for each gigabyte. ``remedy`` is a sentence for the message.

    Raises:
        DamagedFileError: If the file is absent, cut, changed, or was written without a checksum.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            facts = json.loads((stored.metadata() or {})[FACTS_KEY])
            expected = facts.pop(CHECKSUM_KEY)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except Exception as error:
        raise DamagedFileError(
            f"The file {path} cannot be read as safetensors with a checksum ({type(error).__name__}: {error}). {remedy}"
        ) from error
    found = _checksum(tensors, facts)
    if found != expected:
        raise DamagedFileError(
            f"The file {path} is damaged: the checksum of its content is {found[:12]}, and {str(expected)[:12]} was "
            f"written. {remedy}"
        )
    return tensors, facts


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_tensors(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """Returns a sha256 over named tensors: names, shapes, types and bytes."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):  # the order of a dictionary is no content
        tensor = tensors[name].detach().cpu().contiguous()
        # Shape and type as well: the same bytes in another shape are another tensor.
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checksum(tensors: Mapping[str, "torch.Tensor"], facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{json.dumps(facts, sort_keys=True)}{hash_tensors(tensors)}".encode()).hexdigest()


def _read_sums(folder: Path) -> tuple[dict[str, str], str]:
    """Returns the hashes by name, of the lines that are whole, and what is wrong with the file or ``""``."""
    path = folder / SUMS
    if not path.is_file():
        return {}, ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    found = [_LINE.fullmatch(line) for line in lines]
    wrong = next((number for number, match in enumerate(found, 1) if match is None), None)
    fault = f"line {wrong} is not a sha256 and a name" if wrong else "" if lines else "it is empty"
    return {match[2]: match[1] for match in found if match}, fault


def _write_sums(folder: Path, sums: dict[str, str]) -> None:
    if not sums:  # so that an empty one is known to be damaged
        (folder / SUMS).unlink(missing_ok=True)
        return
    with atomic_write(folder / SUMS) as partial:
        partial.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")


def _partial_name(path: Path) -> Path:
    """Returns a name beside the path that no other living process uses, and removes what dead ones left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()  # two machines may share the folder, and process numbers repeat between them
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{glob.escape(host)}.*.partial"):
        with contextlib.suppress(ValueError, PermissionError):  # of another file, or of another user's process
            try:
                os.kill(int(left.name.split(".")[-2]), 0)
            except ProcessLookupError:
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{path.name}.{host}.{os.getpid()}.partial")
