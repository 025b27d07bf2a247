"""Holds every byte of a finished set against its manifest, one shard's rows in memory at a time."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gmail_kedro.generated_sets.advice import remake
from gmail_kedro.generated_sets.checksums import NO_CHECKSUM, find_damage
from gmail_kedro.generated_sets.finished import CAPTIONS_FILE, MANIFEST_FILE, PLAN_FILE, SHARD_FOLDER, rows_by_shard
from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.shard_check import PLACES, Problem, ShardCheck
from gmail_kedro.generated_sets.stored import COMPLETE_FILE, SetDescription, read_description

TABLES = (CAPTIONS_FILE, PLAN_FILE, MANIFEST_FILE)


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


def verify_set(folder: Path, pairs: Path | None = None) -> Verification:
    """Reads a whole set once and compares it with its manifest, its plan and its description.

    Every shard is built again in memory from its pictures and facts and must give the very bytes on the disk; every
    picture must have the manifest's hash and place, and its facts must be the manifest's and the description's. Only
    the sentence that says why a picture is quarantined is on the disk alone, and held against nothing. The tables must
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
    unreadable = {problem.place for problem in problems if problem.what != NO_CHECKSUM}
    if PLAN_FILE not in unreadable:
        problems += _check_plan(folder, whole)
    if MANIFEST_FILE in unreadable:
        return Verification(0, 0, 0, time.perf_counter() - started, tuple(problems))
    seen: dict[str, ShardCheck] = {}
    row_count = 0
    with tqdm(total=whole.image_count, unit="image", disable=None) as progress:
        for shard_id, rows in rows_by_shard(folder / MANIFEST_FILE):
            row_count += len(rows)
            if shard_id in seen or shard_id not in whole.shards:
                problems.append(_stray_rows(folder, MANIFEST_FILE, shard_id, again=shard_id in seen))
                continue
            seen[shard_id] = check = ShardCheck(folder, shard_id, whole)
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
        return Problem(COMPLETE_FILE, f"the set in {folder} was not finished", f"Complete it: {remake(folder)}")
    for name in TABLES:
        if not (folder / name).is_file():
            return Problem(name, "the file is missing", f"Write it (good shards are kept): {remake(folder)}")
    return description


def _check_table(path: Path, command: str) -> Iterator[Problem]:
    if damage := find_damage(path):
        yield Problem(path.name, damage, f"Write it again (good shards are kept): {command}")


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
    folder: Path, whole: SetDescription, row_count: int, seen: Mapping[str, ShardCheck]
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
