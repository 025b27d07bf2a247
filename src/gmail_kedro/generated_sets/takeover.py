"""What a folder already holds of a set that changed: finished pictures move into the new shards without being remade.

A set that grows (more captions, more samples, more photographs) or shrinks gets other rows into its shards. Files that
are no shards of the new plan are set aside in ``former/``; each row that is the same as before, to the last setting,
takes its picture from there. A changed gate judges the stored pictures again, and sets aside those shards only
in which something changes. ``former/`` is removed when the set is complete.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmail_kedro.generated_sets import tar_layout
from gmail_kedro.generated_sets.pictures import Row, retry_seed
from gmail_kedro.generated_sets.quality import forget_verdict
from gmail_kedro.generated_sets.shards import QUARANTINE, ShardError, probe_shard, read_fingerprint, read_shard
from gmail_kedro.generated_sets.siblings import ShardJudges
from gmail_kedro.generated_sets.stored import SetDescription, is_finished, quarantine_path, shard_path
from gmail_kedro.interfaces import ImageRecord

logger = logging.getLogger(__name__)
FORMER = "former"
SHARD_FILE = re.compile(r"(?P<shard_id>[0-9]{5,})\.tar(?P<part>\.unfinished|\.partial)?")


def set_aside_others(folder: Path, wanted: SetDescription) -> None:
    """Moves shards, finished or not, that are not of the set but were made with its settings into ``former/``."""
    for path in [*_shard_files(folder), *_shard_files(folder / QUARANTINE)]:
        match = SHARD_FILE.fullmatch(path.name)
        if match is None or match["part"] == ".partial":
            continue
        try:
            is_wanted = read_fingerprint(path) == wanted.shards.get(match["shard_id"])
        except ShardError:
            continue  # nothing can be taken from it; it is replaced or removed
        if not is_wanted and _made_with(path, wanted.settings):
            _move(path, folder)


def set_aside_misjudged(
    folder: Path,
    wanted: SetDescription,
    judged_by: Mapping[str, Any],
    rows_of: Callable[[str], Sequence[Row]],
    judges: ShardJudges,
    *,
    batch_size: int,
) -> None:
    """Judges the finished shards again and moves those in which a verdict changes into ``former/``.

    Args:
        folder: Home of the set.
        wanted: What the set is to be.
        judged_by: The settings of the gate that judged them before.
        rows_of: Returns the plan's rows of a shard.
        judges: Judge now.
        batch_size: Pictures judged at once.
    """
    same_verdicts = {**judged_by, "retries": 0} == {**judges.gate.settings, "retries": 0}
    for name, fingerprint in wanted.shards.items():
        if not is_finished(folder, name, fingerprint):
            continue
        if same_verdicts and not probe_shard(shard_path(folder, name)).quarantined_count:
            continue  # only retries are new, and there is nothing to retry
        if not _stands(folder, name, rows_of(name), judges, batch_size):
            if quarantine_path(folder, name).is_file():
                _move(quarantine_path(folder, name), folder)
            _move(shard_path(folder, name), folder)


class FormerPictures:
    """The pictures that were set aside, by key.

    Args:
        folder: Home of the set.
        settings: What a picture must have been made with.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._paths = _shard_files(folder / FORMER)
        self._places: dict[str, tuple[int, int]] = {}
        for number, path in enumerate(self._paths):
            self._places.update((key, (number, start)) for key, start in _find_records(path))

    def take(self, row: Row) -> ImageRecord | None:
        """Returns the picture that was made from this very row, or None."""
        if row["key"] not in self._places:
            return None
        number, start = self._places[row["key"]]
        path = self._paths[number]
        try:
            with path.open("rb") as file:
                record = tar_layout.read_record_at(file, path, row["key"], start)
        except ShardError as error:
            logger.warning("A finished picture is made again: %s", error)
            return None
        facts = record.facts
        wanted = {name: row[name] for name in ("caption_id", "image_id", "sample_index", "prompt")} | {
            **self._settings,
            "seed": retry_seed(row["seed"], facts.get("retry", 0)),
        }
        is_same = all(facts.get(name) == fact for name, fact in wanted.items())
        return forget_verdict(record) if is_same else None


def _shard_files(folder: Path) -> list[Path]:
    """Returns quarantine tars before shards, so that of two pictures of one key the accepted one is found last."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file() and ".tar" in path.suffixes)
    return sorted(files, key=lambda path: (QUARANTINE not in path.name, path.name))


def _find_records(path: Path) -> Iterator[tuple[str, int]]:
    """Yields key and first byte of each picture up to where the file is torn."""
    try:
        with path.open("rb") as file:
            for entry in tar_layout.read_entries(file, path, tar_layout.read_header(file, path).end):
                yield entry.key, entry.jpeg.offset - tar_layout.BLOCK
    except ShardError:
        return


def _made_with(path: Path, settings: Mapping[str, Any]) -> bool:
    for key, start in _find_records(path):
        with path.open("rb") as file:
            facts = tar_layout.read_record_at(file, path, key, start).facts
        return all(facts.get(name) == fact for name, fact in settings.items())
    return False


def _move(path: Path, folder: Path) -> None:
    (folder / FORMER).mkdir(exist_ok=True)
    kind = f".{QUARANTINE}" if path.parent.name == QUARANTINE else ""
    shard_id, tail = path.name.split(".", 1)
    # With the fingerprint in its name a file can only replace one that was made from the same rows.
    os.replace(path, folder / FORMER / f"{shard_id}-{read_fingerprint(path)[:16]}{kind}.{tail}")


def _stands(folder: Path, name: str, rows: Sequence[Row], judges: ShardJudges, batch_size: int) -> bool:
    """Says whether the gate's verdicts on a finished shard are those by which it was written."""
    try:
        records = {record.key: record for record in read_shard(shard_path(folder, name))}
        if quarantine_path(folder, name).is_file():
            records |= {record.key: record for record in read_shard(quarantine_path(folder, name))}
    except ShardError:
        return False
    if records.keys() != {row["key"] for row in rows}:
        return False
    judge, stored = judges.open(rows), [records[row["key"]] for row in rows]
    pictures = judges.gate.look_at_all(map(forget_verdict, stored), batch_size=batch_size)
    for record, looked in zip(stored, pictures, strict=True):
        verdict = judge.judge(looked)
        may_retry = record.facts.get("retry", 0) < judges.gate.params.retries
        if verdict.reason != record.facts.get("reason", "") or (verdict.reason and may_retry):
            return False
        judge.settle(looked, verdict)
    return True
