"""Holds every byte of a finished set against its manifest, one shard's rows in memory at a time."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from tqdm import tqdm

from gmail_kedro.records import tar_layout
from gmail_kedro.records.finished import MANIFEST_FILE, SHARD_FOLDER, remake, rows_by_shard
from gmail_kedro.records.plan import hash_plan
from gmail_kedro.records.stored import COMPLETE_FILE, SetDescription, read_description, shard_path
from gmail_kedro.records.tar_layout import Entry, ShardError, jpeg_sha256

ROW_FACTS = ("caption_id", "image_id", "sample_index", "prompt", "seed")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a set.

    Attributes:
        place: The file it was found in.
        what: What is wrong, with the number of pictures it touches.
        repair: What to do.
    """

    place: str
    what: str
    repair: str


@dataclass(frozen=True)
class Verification:
    """What ``verify_set`` looked at and found.

    Attributes:
        image_count: Pictures that were read and hashed.
        shard_count: Shards that were read.
        byte_count: Bytes that were read.
        seconds: How long it took.
        problems: What is wrong; empty for a good set.
    """

    image_count: int
    shard_count: int
    byte_count: int
    seconds: float
    problems: tuple[Problem, ...]


def verify_set(folder: Path) -> Verification:
    """Reads a whole set once and compares it with its manifest and its description.

    Every shard is built again in memory from its pictures and facts and must give the very bytes on the disk; every
    picture must have the manifest's hash and place, and its facts must be the manifest's and the description's.

    Args:
        folder: Such as ``data/02_intermediate/mini_sd``.
    """
    folder, started = Path(folder).resolve(), time.perf_counter()
    whole = _check_whole(folder)
    if isinstance(whole, Problem):
        return Verification(0, 0, 0, time.perf_counter() - started, (whole,))
    problems: list[Problem] = []
    seen: dict[str, _ShardCheck] = {}
    row_count = 0
    with tqdm(total=whole.image_count, unit="image", disable=None) as progress:
        for shard_id, rows in rows_by_shard(folder / MANIFEST_FILE):
            row_count += len(rows)
            if shard_id in seen or shard_id not in whole.shards:
                problems.append(_bad_manifest(folder, shard_id, again=shard_id in seen))
                continue
            seen[shard_id] = check = _ShardCheck(folder, shard_id, whole)
            problems += check.run(rows)
            progress.update(len(rows))
    problems += _check_counts(folder, whole, row_count, seen)
    counts = [sum(getattr(check, name) for check in seen.values()) for name in ("image_count", "byte_count")]
    read_count = sum(check.byte_count > 0 for check in seen.values())
    return Verification(counts[0], read_count, counts[1], time.perf_counter() - started, tuple(problems))


class _ShardCheck:
    """One shard, held against its rows of the manifest.

    Args:
        folder: Home of the set.
        shard_id: The shard.
        whole: What the set consists of.
    """

    def __init__(self, folder: Path, shard_id: str, whole: SetDescription) -> None:
        self.path = shard_path(folder / SHARD_FOLDER, shard_id)
        self.image_count = self.byte_count = self.truncated_count = 0
        self._wanted, self._settings, self._folder = whole.shards[shard_id], whole.settings, folder
        self._bad: dict[str, list[str]] = {}

    def run(self, rows: pd.DataFrame) -> Iterator[Problem]:
        """Yields what is wrong with the shard."""
        if hash_plan(rows, self._settings) != self._wanted:
            yield Problem(
                MANIFEST_FILE,
                f"the rows of {self.path.name} are not the ones the shard was made from",
                f"Make the manifest again (good shards are kept): {remake(self._folder)}",
            )
        try:
            with self.path.open("rb") as file:
                self.byte_count = os.fstat(file.fileno()).st_size
                self._read(file, {row["key"]: row for row in rows[rows["sha256"].notna()].to_dict("records")})
        except FileNotFoundError:
            yield self._problem(f"the shard is missing, and {len(rows)} pictures with it")
        except ShardError as error:
            yield self._problem(f"the file is damaged, no picture after this could be read: {error.reason}")
        for what, keys in self._bad.items():
            yield self._problem(f"{len(keys)} pictures {what} (first: {keys[0]!r})")

    def _read(self, file: BinaryIO, rows: dict[str, Mapping[Any, Any]]) -> None:
        fingerprint, position = tar_layout.read_header(file, self.path)
        header = tar_layout.encode_header(fingerprint)
        if fingerprint != self._wanted or _bytes_at(file, 0, position) != header:
            raise ShardError(self.path, tar_layout.HEADER_NAME, "it is the header of a shard made from something else")
        for entry in tar_layout.read_entries(file, self.path, position):
            self.image_count += 1
            for what in self._check_entry(file, entry, position, rows.pop(entry.key, None)):
                self._bad.setdefault(what, []).append(entry.key)
            position = entry.facts.end
        for key in rows:
            self._bad.setdefault("of the manifest are not in the shard", []).append(key)

    def _check_entry(self, file: BinaryIO, entry: Entry, start: int, row: Mapping[Any, Any] | None) -> Iterator[str]:
        if row is None:
            yield "are in the shard and not in the manifest"
            return
        jpeg = _bytes_at(file, entry.jpeg.offset, entry.jpeg.end)[: entry.jpeg.size]
        if jpeg_sha256(jpeg) != row["sha256"]:
            yield "do not have the bytes that the manifest's hash was taken from"
            return
        if (entry.jpeg.offset, entry.jpeg.size) != (row["offset"], row["size_bytes"]):
            yield "lie elsewhere than the manifest says"
        try:
            record = tar_layout.read_record(file, self.path, entry)
        except ShardError:
            yield "have damaged facts beside them"
            return
        facts = dict(record.facts)
        truncated = facts.pop("truncated", None)
        self.truncated_count += truncated is True
        if not isinstance(truncated, bool) or facts != {name: row[name] for name in ROW_FACTS} | dict(self._settings):
            yield "have other facts beside them than the manifest's and the set's"
        elif _bytes_at(file, start, entry.facts.end) != tar_layout.encode_record(record):
            yield "have changed bytes around them"

    def _problem(self, what: str) -> Problem:
        return Problem(
            f"{SHARD_FOLDER}/{self.path.name}",
            what,
            f"Delete {self.path} and make it again: {remake(self._folder)}; or fetch the set again: "
            f"dvc checkout --force {self._folder}",
        )


def _check_whole(folder: Path) -> SetDescription | Problem:
    shards = folder / SHARD_FOLDER
    try:
        description = read_description(shards)
    except ValueError as error:
        return Problem(COMPLETE_FILE, str(error), f"Complete the set: {remake(folder)}")
    if description is None:
        return Problem(COMPLETE_FILE, f"the set in {folder} was not finished", f"Complete it: {remake(folder)}")
    if not (folder / MANIFEST_FILE).is_file():
        return Problem(MANIFEST_FILE, "there is no manifest", f"Write it (good shards are kept): {remake(folder)}")
    return description


def _check_counts(
    folder: Path, whole: SetDescription, row_count: int, seen: Mapping[str, _ShardCheck]
) -> Iterator[Problem]:
    again = f"Make it again (good shards are kept): {remake(folder)}"
    if row_count != whole.image_count:
        yield Problem(MANIFEST_FILE, f"it has {row_count} rows; {COMPLETE_FILE} says {whole.image_count}", again)
    if left_out := [name for name in whole.shards if name not in seen]:
        yield Problem(MANIFEST_FILE, f"it lacks the rows of {len(left_out)} shards (first: {left_out[0]})", again)
    truncated = sum(check.truncated_count for check in seen.values())
    if truncated != whole.truncated_prompt_count:
        found = f"it says {whole.truncated_prompt_count} prompts were cut; the shards say {truncated}"
        yield Problem(COMPLETE_FILE, found, f"Delete {folder / SHARD_FOLDER / COMPLETE_FILE}. {again}")
    known = {shard_path(folder, name).name for name in whole.shards} | {COMPLETE_FILE}
    for path in sorted((folder / SHARD_FOLDER).iterdir()):
        if path.name not in known:
            yield Problem(f"{SHARD_FOLDER}/{path.name}", "the file is no part of the set", f"Delete {path}")


def _bad_manifest(folder: Path, shard_id: str, *, again: bool) -> Problem:
    what = "do not lie together" if again else "belong to no shard of the set"
    return Problem(MANIFEST_FILE, f"its rows of shard {shard_id} {what}", f"Make the manifest again: {remake(folder)}")


def _bytes_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
