"""Holds one shard of a finished set, and its quarantine, against their rows of the manifest, byte for byte."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from gmail_kedro.generated_sets import tar_layout
from gmail_kedro.generated_sets.advice import remake
from gmail_kedro.generated_sets.finished import SHARD_FOLDER
from gmail_kedro.generated_sets.manifest import QUARANTINED
from gmail_kedro.generated_sets.stored import SetDescription, quarantine_path, shard_path
from gmail_kedro.generated_sets.tar_layout import Entry, ShardError, jpeg_sha256

FREE_FACTS = ("truncated", "retry", "fault", "detail")  # in the shards only
PLACES = (shard_path, quarantine_path)
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


class ShardCheck:
    """One shard and its quarantine, held against their rows of the manifest.

    Args:
        folder: Home of the set.
        shard_id: The shard.
        whole: What the set consists of.

    Attributes:
        image_count: Pictures that were read.
        byte_count: Bytes of the files.
        truncated_count: Pictures whose prompt was cut.
        reasons: Quarantined pictures by reason, as the manifest has them.
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
                expected = tar_layout.encode_header(self._wanted, quarantined_count)
                start = tar_layout.read_header(file, path).end
                if _bytes_at(file, 0, start) != expected:
                    raise ShardError(path, tar_layout.HEADER_NAME, "it belongs to a shard made from something else")
                self._read(file, path, start, {row["key"]: row for row in rows.to_dict("records")})
        except FileNotFoundError:
            yield self._problem(path, f"the shard is missing, and {len(rows)} pictures with it")
        except ShardError as error:
            yield self._problem(path, f"the file is damaged, no picture after this could be read: {error.reason}")
        for what, keys in self._bad.items():
            yield self._problem(path, f"{len(keys)} pictures {what} (first: {keys[0]!r})")

    def _read(self, file: BinaryIO, path: Path, position: int, rows: dict[str, Mapping[Any, Any]]) -> None:
        expected, found = list(rows), []
        for entry in tar_layout.read_entries(file, path, position):
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
        if jpeg_sha256(jpeg) != row["sha256"]:
            yield "do not have the bytes that the manifest's hash was taken from"
            return
        if (entry.jpeg.offset, entry.jpeg.size) != (row["offset"], row["size_bytes"]):
            yield "lie elsewhere than the manifest says"
        try:
            record = tar_layout.read_record(file, path, entry)
        except ShardError:
            yield "have damaged facts beside them"
            return
        self.truncated_count += record.facts.get("truncated") is True
        if not self._has_facts_of(record.facts, row):
            yield "have other facts beside them than the manifest's and the set's"
        elif _bytes_at(file, start, entry.facts.end) != tar_layout.encode_record(record):
            yield "have changed bytes around them"

    def _has_facts_of(self, facts: Mapping[str, Any], row: Mapping[Any, Any]) -> bool:
        expected = {name: row[name] for name in ROW_FACTS} | dict(self._settings)
        if row["status"] == QUARANTINED:
            expected["reason"] = row["reason"]
        others = {name: fact for name, fact in facts.items() if name not in FREE_FACTS}
        return others == expected and isinstance(facts.get("truncated"), bool)

    def _problem(self, path: Path, what: str) -> Problem:
        return Problem(
            str(path.relative_to(self._folder)),
            what,
            f"Delete {self._shard} and make it again: {remake(self._folder)}; or fetch the set again: "
            f"dvc checkout --force {self._folder}",
        )


def _bytes_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
