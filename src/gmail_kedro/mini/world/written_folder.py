"""A folder of files that were made together: written as a whole or not at all, and checked on reading."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from gmail_kedro.whole_files import SUMS, KnownFolder, atomic_folder, know_folder

UNTOUCHED = (".gitkeep", ".DS_Store")  # may lie in a folder that is replaced


def write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Writes files and their ``SHA256SUMS``, in place of an older folder of such files.

    A folder that holds these very files is left alone, so that features and plans that know its files by their times
    stay valid.

    Args:
        folder: Where they go. It may be absent, empty or an older folder of the kind.
        files: Their contents by their paths in it.

    Returns:
        Whether anything was written.

    Raises:
        FileExistsError: If the folder holds what was not written here; nothing is touched.
    """
    folder = Path(folder).absolute()
    _refuse_foreign_files(folder, files)
    if _holds(folder, files):
        return False
    with atomic_folder(folder) as unfinished:
        for name, content in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        know_folder(unfinished)
    return True


def open_folder(folder: Path, *, remedy: str, later: str = "") -> KnownFolder:
    """Returns what reads the files of a written folder, after a look at them.

    Args:
        folder: As ``write_folder`` left it.
        remedy: What to do where a file is not what was written; a sentence.
        later: Beginning of the names that are checked only when they are read.

    Raises:
        FileNotFoundError: If the folder or a file of it is not there.
        DamagedFileError: If a file is not what was written.
    """
    folder = Path(folder)
    if not (folder / SUMS).is_file():
        raise FileNotFoundError(f"The mini world '{folder}' is not complete: it has no {SUMS}. {remedy}")
    files = KnownFolder(folder, remedy=remedy)
    for name in files.names:
        if not later or not name.startswith(later):
            files.read(folder / name)
    return files


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        same = all((folder / name).read_bytes() == content for name, content in files.items())
    except (OSError, ValueError):
        return False
    return same and lines == [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files)]


def _refuse_foreign_files(folder: Path, files: Mapping[str, bytes]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"The mini world needs a folder at '{folder}'. Got a file. Choose another filepath.")
    own = {name.partition("/")[0] for name in (*files, *_listed(folder))} | {SUMS, *UNTOUCHED}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if foreign:
        raise FileExistsError(
            f"The folder '{folder}' must be empty or hold a mini world, because it is replaced as a whole. "
            f"It also holds {foreign[:3]} ({len(foreign)} in all). Move them away or choose another filepath."
        )


def _listed(folder: Path) -> list[str]:
    """Returns what the ``SHA256SUMS`` of an older folder says that it holds; nothing where it cannot be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [line.partition("  ")[2] for line in lines]
