"""Walks through a folder of pictures and everything below it: each folder once, in the same order on every disk."""

import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from gmail_kedro.corpora.skipping import Skipped


def walk_folders(top: Path, skipped: Skipped) -> Iterator[tuple[Path, list[str]]]:
    """Yields every folder with the names of its files, both sorted; hidden ones are left alone.

    Folders come before links to folders, which are followed wherever they lead. What lies at a folder's own place is
    therefore called by it, whatever else it is called. A folder that was read already is counted, as is a link that
    leads to nothing or to a folder around ``top``: so circles end.

    Args:
        top: Where the walk begins; may be a link.
        skipped: Where links and folders that cannot be read are counted.
    """
    seen: set[tuple[int, int]] = set()
    around = {_identity(str(folder)) for folder in top.resolve().parents}
    waiting = deque([str(top)])
    while waiting:
        start = waiting.popleft()
        if _identity(start) in around:
            skipped.add("link to a folder around its own", _name(start, top))
            continue
        for parent, folders, files in os.walk(start, onerror=lambda error: _count_closed(error, top, skipped)):
            if (identity := _identity(parent)) in seen:
                skipped.add("folder that is read under another name already", _name(parent, top))
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting.extend(path for name in folders if os.path.islink(path := os.path.join(parent, name)))
            yield Path(parent), [name for name in sorted(files) if _is_there(os.path.join(parent, name), top, skipped)]


def _is_there(path: str, top: Path, skipped: Skipped) -> bool:
    if os.path.basename(path).startswith("."):
        return False
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        skipped.add("link that leads to nothing", _name(path, top))
        return False
    if not is_file:
        skipped.add("neither a file nor a folder", _name(path, top))
    return is_file


def _count_closed(error: OSError, top: Path, skipped: Skipped) -> None:
    skipped.add("folder that cannot be opened", _name(str(error.filename), top))


def _identity(folder: str) -> tuple[int, int]:
    facts = os.stat(folder)
    return facts.st_dev, facts.st_ino


def _name(path: str, top: Path) -> str:
    return os.path.relpath(path, top)
