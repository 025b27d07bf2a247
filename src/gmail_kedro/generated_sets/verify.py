"""Holds every byte of a complete set against its manifest, one shard's rows in memory at a time."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from tqdm import tqdm

from gmail_kedro.generated_sets.manifest import QUARANTINED
from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.set_folder import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    SHARD_FOLDER,
    rows_by_shard,
)
from gmail_kedro.generated_sets.shard_format import (
    HEADER_NAME,
    Entry,
    ShardError,
    encode_header,
    encode_record,
    jpeg_sha256,
    read_entries,
    read_header,
    read_record,
    remake,
)
from gmail_kedro.generated_sets.stored_images import (
    COMPLETE_FILE,
    SetDescription,
    quarantine_path,
    read_description,
    shard_path,
)
from gmail_kedro.whole_files import DamagedFileError, refuse_changed

TABLES = (CAPTIONS_FILE, PLAN_FILE, MANIFEST_FILE)
NO_CHECKSUM = "SHA256SUMS has no line of it (an earlier version or another program wrote it)"
FREE_FACTS = ("truncated", "retry", "fault", "detail")  # in the shards only
PLACES = (shard_path, quarantine_path)
ROW_FACTS = ("caption_id", "image_id", "sample_index", "prompt", "seed")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a set."""

    place: str  # the file it was found in
    what: str  # what is wrong, with the number of images it touches
    repair: str  # what to do


@dataclass(frozen=True)
class Verification:
    """What ``verify_set`` looked at and found."""

    image_count: int  # images that were read and hashed
    shard_count: int  # shards that were read
    byte_count: int  # bytes that were read
    seconds: float
    problems: tuple[Problem, ...]  # what is wrong; empty for a good set


def verify_set(folder: Path, pairs: Path | None = None) -> Verification:
    """Reads a whole set once and compares it with its manifest, its plan and its description.

    Every shard is built again in memory from its images and facts and must give the very bytes on the disk; every
    image must have the manifest's hash and place, and its facts must be the manifest's and the description's. Only
    the sentence that says why an image is quarantined is on the disk alone, and held against nothing. The tables must
    have the bytes that their own checksums were taken from.

    Args:
        folder: Such as ``data/02_intermediate/mini_sd``.
        pairs: The table of the set's pairs, which need not exist.
    """
    folder, started = Path(folder).resolve(), time.perf_counter()
    whole = _check_whole(folder)
    if isinstance(whole, Problem):
        return Verification(0, 0, 0, time.perf_counter() - started, (whole,))
    problems = [problem for name in TABLES for problem in _check_table(folder / name, remake(folder))]
    if pairs is not None and pairs.is_file():
        problems += _check_table(pairs, remake(pairs.absolute().parent, "pairing"))
    # Of a table that is damaged no row is worth a word: everything would seem wrong.
    unreadable = {problem.place for problem in problems if problem.what != NO_CHECKSUM}
    if PLAN_FILE not in unreadable:
        problems += _check_plan(folder, whole)
    if MANIFEST_FILE in unreadable:
        return Verification(0, 0, 0, time.perf_counter() - started, tuple(problems))
    seen: dict[str, _ShardCheck] = {}
    row_count = 0
    with tqdm(total=whole.image_count, unit="image", disable=None) as progress:
        for shard_id, rows in rows_by_shard(folder / MANIFEST_FILE):
            row_count += len(rows)
            if shard_id in seen or shard_id not in whole.shards:
                problems.append(_stray_rows(folder, MANIFEST_FILE, shard_id, again=shard_id in seen))
                continue
            seen[shard_id] = check = _ShardCheck(folder, shard_id, whole)
            problems += check.run(rows)
            progress.update(len(rows))
    problems += _check_counts(folder, whole, row_count, seen)
    counts = [sum(getattr(check, name) for check in seen.values()) for name in ("image_count", "byte_count")]
    read_count = sum(check.byte_count > 0 for check in seen.values())
    return Verification(counts[0], read_count, counts[1], time.perf_counter() - started, tuple(problems))


def _check_whole(folder: Path) -> SetDescription | Problem:
    shards = folder / SHARD_FOLDER
    try:
        description = read_description(shards)
    except ValueError as error:
        return Problem(COMPLETE_FILE, str(error), f"Complete the set: {remake(folder)}")
    if description is None:
        return Problem(COMPLETE_FILE, f"the set in {folder} is not complete", f"Complete it: {remake(folder)}")
    for name in TABLES:
        if not (folder / name).is_file():
            return Problem(name, "the file is missing", f"Write it (good shards are kept): {remake(folder)}")
    return description


def _check_table(path: Path, command: str) -> Iterator[Problem]:
    try:
        found = "" if refuse_changed(path) else NO_CHECKSUM
    except DamagedFileError as error:
        found = str(error)
    if found:
        yield Problem(path.name, found, f"Write it again (good shards are kept): {command}")


def _check_plan(folder: Path, whole: SetDescription) -> Iterator[Problem]:
    again = f"Make it again (good shards are kept): {remake(folder)}"
    seen = set()
    for shard_id, rows in rows_by_shard(folder / PLAN_FILE):
        if shard_id in seen or shard_id not in whole.shards:
            yield _stray_rows(folder, PLAN_FILE, shard_id, again=shard_id in seen)
        elif hash_plan(rows, whole.settings) != whole.shards[shard_id]:
            yield Problem(PLAN_FILE, f"its rows of shard {shard_id} are not the ones the set was made from", again)
        seen.add(shard_id)
    if left_out := [name for name in whole.shards if name not in seen]:
        yield Problem(PLAN_FILE, f"it lacks the rows of {len(left_out)} shards (first: {left_out[0]})", again)


def _check_counts(
    folder: Path, whole: SetDescription, row_count: int, seen: Mapping[str, "_ShardCheck"]
) -> Iterator[Problem]:
    again = f"Make it again (good shards are kept): {remake(folder)}"
    if row_count != whole.image_count:
        yield Problem(MANIFEST_FILE, f"it has {row_count} rows; {COMPLETE_FILE} says {whole.image_count}", again)
    if left_out := [name for name in whole.shards if name not in seen]:
        yield Problem(MANIFEST_FILE, f"it lacks the rows of {len(left_out)} shards (first: {left_out[0]})", again)
    close_again = f"Delete {folder / SHARD_FOLDER / COMPLETE_FILE}. {again}"
    truncated = sum(check.truncated_count for check in seen.values())
    if truncated != whole.truncated_prompt_count:
        found = f"it says {whole.truncated_prompt_count} prompts were cut; the shards say {truncated}"
        yield Problem(COMPLETE_FILE, found, close_again)
    reasons = dict(sum((check.reasons for check in seen.values()), Counter()))
    if reasons != whole.quarantined:
        found = f"it says {dict(whole.quarantined)} are quarantined; the manifest says {reasons}"
        yield Problem(COMPLETE_FILE, found, close_again)
    shards = folder / SHARD_FOLDER
    known = {shards / COMPLETE_FILE} | {place(shards, name) for name in whole.shards for place in PLACES}
    for path in sorted(path for path in shards.rglob("*") if path.is_file() and path not in known):
        yield Problem(str(path.relative_to(folder)), "the file is no part of the set", f"Delete {path}")


def _stray_rows(folder: Path, name: str, shard_id: str, *, again: bool) -> Problem:
    what = "do not lie together" if again else "belong to no shard of the set"
    return Problem(name, f"its rows of shard {shard_id} {what}", f"Make it again: {remake(folder)}")


class _ShardCheck:
    """One shard and its quarantine, held against their rows of the manifest.

    Args:
        folder: Home of the set.
        shard_id: The shard.
        whole: What the set consists of.

    Attributes:
        image_count: Images that were read.
        byte_count: Bytes of the files.
        truncated_count: Images whose prompt was cut.
        reasons: Quarantined images by reason, as the manifest has them.
    """

    def __init__(self, folder: Path, shard_id: str, whole: SetDescription) -> None:
        self.image_count = self.byte_count = self.truncated_count = 0
        self.reasons: Counter[str] = Counter()
        self._folder, self._wanted, self._settings = folder, whole.shards[shard_id], whole.settings
        self._shard, self._quarantine = (place(folder / SHARD_FOLDER, shard_id) for place in PLACES)
        self._bad: dict[str, list[str]] = {}

    def run(self, rows: pd.DataFrame) -> Iterator[Problem]:
        """Yields what is wrong with the shard, then with its quarantine."""
        refused = rows["status"] == QUARANTINED
        self.reasons.update(rows.loc[refused, "reason"].tolist())
        yield from self._run_file(self._shard, rows[~refused], int(refused.sum()))
        if refused.any():
            yield from self._run_file(self._quarantine, rows[refused], 0)

    def _run_file(self, path: Path, rows: pd.DataFrame, quarantined_count: int) -> Iterator[Problem]:
        self._bad = {}
        try:
            with path.open("rb") as file:
                self.byte_count += os.fstat(file.fileno()).st_size
                expected = encode_header(self._wanted, quarantined_count)
                # Built anew and compared: a changed byte in what no reader looks at, such as padding, is found, too.
                start = read_header(file, path).end
                if _bytes_at(file, 0, start) != expected:
                    raise ShardError(path, HEADER_NAME, "it belongs to a shard made from something else")
                self._read(file, path, start, {row["key"]: row for row in rows.to_dict("records")})
        except FileNotFoundError:
            yield self._problem(path, f"the shard is missing, and {len(rows)} images with it")
        except ShardError as error:
            # Members are found one by the other: after a broken header nothing can be told apart.
            yield self._problem(path, f"the file is damaged, no image after this could be read: {error.reason}")
        for what, keys in self._bad.items():
            yield self._problem(path, f"{len(keys)} images {what} (first: {keys[0]!r})")

    def _read(self, file: BinaryIO, path: Path, position: int, rows: dict[str, Mapping[Any, Any]]) -> None:
        expected, found = list(rows), []
        for entry in read_entries(file, path, position):
            self.image_count += 1
            if entry.key in rows:
                found.append(entry.key)
            for what in self._check_entry(file, path, position, entry, rows.pop(entry.key, None)):
                self._bad.setdefault(what, []).append(entry.key)
            position = entry.facts.end
        for key in rows:
            self._bad.setdefault("of the manifest are not in the shard", []).append(key)
        present = [key for key in expected if key not in rows]
        if moved := [key for key, wanted in zip(found, present, strict=True) if key != wanted]:
            self._bad["have another order than the manifest's rows"] = moved

    def _check_entry(
        self, file: BinaryIO, path: Path, start: int, entry: Entry, row: Mapping[Any, Any] | None
    ) -> Iterator[str]:
        if row is None:
            yield "are in the shard and not in the manifest"
            return
        jpeg = _bytes_at(file, entry.jpeg.offset, entry.jpeg.offset + entry.jpeg.size)
        # Against the manifest first: image and hash beside it may have been exchanged together.
        if jpeg_sha256(jpeg) != row["sha256"]:
            yield "do not have the bytes that the manifest's hash was taken from"
            return
        if (entry.jpeg.offset, entry.jpeg.size) != (row["offset"], row["size_bytes"]):
            yield "lie elsewhere than the manifest says"
        try:
            record = read_record(file, path, entry)
        except ShardError:
            yield "have damaged facts beside them"
            return
        self.truncated_count += record.facts.get("truncated") is True
        if not self._has_facts_of(record.facts, row):
            yield "have other facts beside them than the manifest's and the set's"
        elif _bytes_at(file, start, entry.facts.end) != encode_record(record):
            yield "have changed bytes around them"

    def _has_facts_of(self, facts: Mapping[str, Any], row: Mapping[Any, Any]) -> bool:
        expected = {name: row[name] for name in ROW_FACTS} | dict(self._settings)
        if row["status"] == QUARANTINED:
            expected["reason"] = row["reason"]
        others = {name: fact for name, fact in facts.items() if name not in FREE_FACTS}
        return others == expected and isinstance(facts.get("truncated"), bool)

    def _problem(self, path: Path, what: str) -> Problem:
        make = f"Delete {self._shard} and make" if self._shard.is_file() else "Make"
        return Problem(
            str(path.relative_to(self._folder)),
            what,
            f"{make} it again: {remake(self._folder)}; or fetch the set again: dvc checkout --force {self._folder}",
        )


def _bytes_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
