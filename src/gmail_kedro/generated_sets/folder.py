"""The folder of a generated set while it is worked on: held, announced, closed, and freed of what is not of the set."""

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmail_kedro.generated_sets.shards import QUARANTINE, probe_shard, read_facts
from gmail_kedro.generated_sets.stored import (
    COMPLETE_FILE,
    UNFINISHED_FILE,
    SetDescription,
    missing_shards,
    quarantine_path,
    read_description,
    shard_path,
    write_description,
)
from gmail_kedro.generated_sets.takeover import FORMER, SHARD_FILE
from gmail_kedro.generated_sets.tally import QuarantineTally

logger = logging.getLogger(__name__)


def is_complete_set(folder: Path, wanted: SetDescription) -> bool:
    """Says whether the folder holds just what is wanted, judged by the gate that is wanted, and says so."""
    try:
        found = read_description(folder)
    except ValueError:
        return False
    if found is None:
        return False
    counted = replace(
        wanted, truncated_prompt_count=found.truncated_prompt_count, quarantined=found.quarantined
    )  # what only a finished set can say
    return found == counted and not missing_shards(folder, wanted)


def read_gate(folder: Path) -> Mapping[str, Any]:
    """Returns the gate by which the finished shards in a folder were judged; empty if that is unknown."""
    found = _read_last(folder)
    return {} if found is None else found.quality


def warn_of_replacing(folder: Path, wanted: SetDescription) -> None:
    """Says which pictures of the folder will be gone: those of other settings, and those that nobody asks for now."""
    found = _read_last(folder)
    if found is None:
        return
    names = sorted({*found.settings, *wanted.settings})
    values = ((name, found.settings.get(name), wanted.settings.get(name)) for name in names)
    changes = [f"{name} {before!r}, now {now!r}" for name, before, now in values if before != now]
    if changes:
        gone = f"was made with other settings ({'; '.join(changes)}): its {found.image_count} pictures are replaced"
    elif found.image_count > wanted.image_count:
        gone = f"has {found.image_count} pictures, and {wanted.image_count} are asked for now: the others are removed"
    else:
        return
    logger.warning("The set in %s %s. To keep them, stop, and name another set: --params=set=…", folder, gone)


def _read_last(folder: Path) -> SetDescription | None:
    """Returns what the folder says it holds, finished or not; None if it says nothing that can be read."""
    for name in (COMPLETE_FILE, UNFINISHED_FILE):
        with contextlib.suppress(ValueError):
            found = read_description(folder, name)
            if found is not None:
                return found
    return None


def announce(folder: Path, wanted: SetDescription, judged_by: Mapping[str, Any]) -> None:
    """Says what is being made and by which gate the finished shards were judged.

    From here until ``set.json`` is back, nobody can take the folder for a complete set.
    """
    write_description(folder, replace(wanted, quality=judged_by), UNFINISHED_FILE)
    (folder / COMPLETE_FILE).unlink(missing_ok=True)


def close_set(folder: Path, wanted: SetDescription, tally: QuarantineTally) -> None:
    """Declares the set complete.

    Raises:
        ShardError: If a shard is damaged.
    """
    tars = [place(folder, name) for name in wanted.shards for place in (shard_path, quarantine_path)]
    truncated = sum(facts["truncated"] for path in tars if path.is_file() for facts in read_facts(path))
    closed = replace(wanted, truncated_prompt_count=truncated, quarantined=dict(tally.rows()))
    write_description(folder, closed, COMPLETE_FILE)


def remove_extra(folder: Path, wanted: SetDescription) -> None:
    """Removes shards, and parts of shards, that a complete set does not consist of. Other files stay."""
    shutil.rmtree(folder / FORMER, ignore_errors=True)
    for path in sorted(folder.iterdir()):
        match = SHARD_FILE.fullmatch(path.name)
        if match and (match["shard_id"] not in wanted.shards or match["part"]):
            logger.info("Removing %s: it is not part of the plan.", path)
            path.unlink()
    quarantine = folder / QUARANTINE
    for path in sorted(quarantine.iterdir()) if quarantine.is_dir() else ():
        match = SHARD_FILE.fullmatch(path.name)
        shard_id = match["shard_id"] if match and not match["part"] else ""
        if shard_id not in wanted.shards or not probe_shard(shard_path(folder, shard_id)).quarantined_count:
            path.unlink()
    with contextlib.suppress(OSError):  # not empty, or not there
        quarantine.rmdir()
    (folder / UNFINISHED_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes from generating into the folder; the kernel lets go if this one dies.

    Raises:
        RuntimeError: If another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another process is generating into {folder}; wait for it or stop it.") from error
        yield
    finally:
        os.close(descriptor)
