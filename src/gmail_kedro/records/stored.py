"""A generated set on disk: the file that says it is complete, and its pictures by key.

While shards are being made the folder holds ``set.unfinished.json``; ``set.json`` is written last, atomically.
Both say what the set consists of: the settings, and every shard with its fingerprint.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gmail_kedro.records.plan import hash_plan
from gmail_kedro.records.shards import ShardError, index_shard, read_fingerprint

COMPLETE_FILE = "set.json"
UNFINISHED_FILE = "set.unfinished.json"
_SHARD_ID = re.compile(r"[0-9]{5,}")


@dataclass(frozen=True)
class SetDescription:
    """What a generated set consists of.

    Attributes:
        fingerprint: Hash of the whole plan and the settings.
        settings: What decides the pixels beside the plan: generator, revision, steps and the like.
        image_count: Pictures in the set.
        truncated_prompt_count: Prompts the generator had to cut; 0 until the set is complete.
        shards: The fingerprint of every shard, by shard id.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    image_count: int
    truncated_prompt_count: int
    shards: Mapping[str, str]

    def __post_init__(self) -> None:
        # A shard id becomes a file name: nothing but digits may reach the disk.
        bad = [name for name in self.shards if not _SHARD_ID.fullmatch(name)]
        if bad:
            raise ValueError(f"The shard id {bad[0]!r} must be five or more digits, such as '00012'.")


class Location(NamedTuple):
    """Where a picture lies: its shard, the first byte of the JPEG and its length."""

    shard_id: str
    offset: int
    size: int


def describe_set(plan: pd.DataFrame, settings: Mapping[str, Any]) -> SetDescription:
    """Returns what a plan and settings ask for.

    A shard's fingerprint covers its own rows only, so a plan that grew at its end keeps its full shards.
    """
    return SetDescription(
        fingerprint=hash_plan(plan, settings),
        settings=dict(settings),
        image_count=len(plan),
        truncated_prompt_count=0,
        shards={str(name): hash_plan(rows, settings) for name, rows in plan.groupby("shard_id", sort=False)},
    )


def shard_path(folder: Path, shard_id: str) -> Path:
    """Returns where a finished shard is."""
    return Path(folder) / f"{shard_id}.tar"


def missing_shards(folder: Path, description: SetDescription) -> list[str]:
    """Returns the ids of the shards that are absent, unreadable or made from something else, in plan order."""
    return [name for name, wanted in description.shards.items() if _fingerprint(shard_path(folder, name)) != wanted]


def read_description(folder: Path, name: str = COMPLETE_FILE) -> SetDescription | None:
    """Returns what a folder says of its set, or None if it does not.

    Args:
        folder: Home of the set.
        name: ``set.json``, or ``set.unfinished.json`` for what is being made.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(folder) / name
    if not path.is_file():
        return None
    try:
        description = SetDescription(**json.loads(path.read_text(encoding="utf-8")))
        if isinstance(description.shards, dict) and isinstance(description.settings, dict):
            return description
        reason = "shards and settings must be objects"
    except (ValueError, TypeError) as error:
        reason = str(error)
    raise ValueError(f"{path} does not describe a generated set ({reason}). Delete it and generate again.")


def write_description(folder: Path, description: SetDescription, name: str) -> None:
    """Writes a description so that it is there as a whole or not at all."""
    path = Path(folder) / name
    partial = path.with_name(f"{name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(asdict(description), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class StoredImages:
    """The pictures of a complete set, by key, each read from its place in its shard.

    The first look-up reads the headers of all shards; nothing stays open, so instances may be
    pickled and shared between processes.

    Args:
        folder: Home of the set.
        description: What ``set.json`` says.

    Attributes:
        modality: ``generated``: these pictures may only go through the generated route of a student.
        folder: Home of the set.
        description: What ``set.json`` says.
    """

    modality = "generated"

    def __init__(self, folder: Path, description: SetDescription) -> None:
        self.folder = Path(folder)
        self.description = description

    @property
    def fingerprint(self) -> str:
        """Hash of the plan and the settings the set was made from."""
        return self.description.fingerprint

    def __len__(self) -> int:
        return self.description.image_count

    def keys(self) -> Iterator[str]:
        """Yields the key of every picture, shard by shard."""
        yield from self._index

    def locate(self, key: str) -> Location:
        """Returns where a picture lies.

        Raises:
            FileNotFoundError: If the set has no such picture.
        """
        try:
            return self._index[key]
        except KeyError:
            raise FileNotFoundError(
                f"The generated set in {self.folder} has no picture {key!r}; it has {len(self)}, such as "
                f"{next(self.keys(), None)!r}. Was the pair table made from another set?"
            ) from None

    def shard_of(self, key: str) -> str:
        """Returns the id of the shard a picture lies in.

        Raises:
            FileNotFoundError: If the set has no such picture.
        """
        return self.locate(key).shard_id

    def stamp(self, key: str) -> str:
        """Returns what changes when the picture does, without reading it: its shard's fingerprint and its key.

        Raises:
            FileNotFoundError: If the set has no such picture.
        """
        return f"{self.description.shards[self.shard_of(key)]} {key}"

    def read(self, key: str) -> bytes:
        """Returns the JPEG of a picture.

        Raises:
            FileNotFoundError: If the set has no such picture, or its shard is gone.
            ValueError: If the shard was cut short since it was indexed.
        """
        place = self.locate(key)
        with shard_path(self.folder, place.shard_id).open("rb") as file:
            file.seek(place.offset)
            jpeg = file.read(place.size)
        if len(jpeg) != place.size:
            raise ShardError(shard_path(self.folder, place.shard_id), f"picture {key!r}", "the file is truncated")
        return jpeg

    @cached_property
    def _index(self) -> dict[str, Location]:
        index: dict[str, Location] = {}
        for shard_id in self.description.shards:
            for key, place in index_shard(shard_path(self.folder, shard_id)).items():
                index[key] = Location(shard_id, *place)
        if len(index) != len(self):
            raise ValueError(
                f"The shards in {self.folder} hold {len(index)} pictures; {COMPLETE_FILE} says {len(self)}. "
                "Delete the folder and generate again."
            )
        return index


def _fingerprint(path: Path) -> str | None:
    try:
        return read_fingerprint(path)
    except (FileNotFoundError, ShardError):
        return None
