"""Hashes of the files of a model's folder: all that decide what it gives, in linked folders too.

Those of large files are remembered, so that 24 GB are not read again at every start.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from gmail_kedro.whole_files import atomic_write

HASHED_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")
LARGE_BYTES = 64 * 2**20
_BLOCK_BYTES = 1 << 20


def hash_files(folder: Path, *, from_memory: bool = True) -> dict[str, str]:
    """Returns the sha256 of every weight and configuration file of a folder, by its path inside the folder.

    Links are followed, those to folders too. The hash of a file of 64 MiB or more is remembered under the user's cache
    folder and used again while the file's path, size and times of change are the same. Whoever can set those can fool
    it: delete the memory to be sure.

    Args:
        folder: The folder.
        from_memory: Whether remembered hashes are taken; without, every byte is read: about a second for a gigabyte.
    """
    paths = sorted(_files(folder))
    memory = _read_memory() if from_memory else {}
    hashes, learnt = {}, {}
    for path in paths:
        key = _identity(path) if path.stat().st_size >= LARGE_BYTES else ""
        digest = memory.get(key) or _hash_file(path)
        if key and key not in memory:
            learnt[key] = digest
        hashes[path.relative_to(folder).as_posix()] = digest
    if learnt:
        _remember(learnt)
    return hashes


def combine_hashes(hashes: dict[str, str]) -> str:
    """Returns one sha256 over the names and hashes of files."""
    return hashlib.sha256("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()).hexdigest()


def memory_file() -> Path:
    """Returns where the hashes of large files are remembered."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gmail_kedro" / "file_hashes.json"


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yields the hashed files below a folder; one that contains itself through a link is entered once."""
    real = folder.resolve()
    if real in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, (*above, real))
        elif path.suffix.lower() in HASHED_SUFFIXES and path.is_file():
            yield path


def _identity(path: Path) -> str:
    facts = path.stat()
    # The time of the last change of the file's entry too: copying tools set the other one back.
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _read_memory() -> dict[str, str]:
    try:
        memory = json.loads(memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or damaged: everything is hashed anew
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(learnt: dict[str, str]) -> None:
    """Adds hashes to the memory; when two processes write at once, one forgets and hashes again next time."""
    path = memory_file()
    try:
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(_read_memory() | learnt, indent=1), encoding="utf-8")
    except OSError:  # a read-only home: the next start hashes again
        return
