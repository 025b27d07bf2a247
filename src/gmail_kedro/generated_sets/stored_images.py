"""The images of a generated set by key, and the file that says what the set consists of.

``set.json`` is written last: a folder without it is no set. While shards are being made ``set.unfinished.json`` stands
there in its place. Both name the settings, the gate that the images passed, and every shard with its fingerprint.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.shard_format import (
    QUARANTINE,
    ShardError,
    index_shard,
    probe_shard,
    read_facts,
    read_image,
    remake,
    write_shard,
)
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.whole_files import atomic_write

COMPLETE_FILE = "set.json"
UNFINISHED_FILE = "set.unfinished.json"
CHECKSUM_KEY = "sha256"
_SHARD_ID = re.compile(r"[0-9]{5,}")


@dataclass(frozen=True)
class SetDescription:
    """What a generated set consists of."""

    fingerprint: str  # hash of the whole plan and the settings
    settings: Mapping[str, Any]  # what decides the pixels beside the plan: generator, revision, steps and the like
    image_count: int  # images that were asked for
    truncated_prompt_count: int  # prompts the generator had to cut; 0 until the set is complete
    shards: Mapping[str, str]  # the fingerprint of every shard, by shard id
    # The gate that judged the shards, as ``QualityGate.settings`` gives it; empty if that is unknown
    quality: Mapping[str, Any] = field(default_factory=dict)
    # How many images are quarantined, by reason; empty until the set is complete
    quarantined: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A shard id becomes a file name: nothing but digits may reach the disk.
        bad = [name for name in self.shards if not _SHARD_ID.fullmatch(name)]
        if bad:
            raise ValueError(f"The shard id {bad[0]!r} must be five or more digits, such as '00012'.")


class Location(NamedTuple):
    """Where an image lies: its shard, the first byte of the JPEG and its length.

    A quarantined image's shard id is ``quarantine/`` and the shard's own; its length is 0 where none was made.
    """

    shard_id: str
    offset: int
    size: int


class Quarantined(NamedTuple):
    """An image that the gate refused: where it lies, and why in one word and in a sentence."""

    place: Location
    reason: str
    detail: str


def describe_set(
    plan: pd.DataFrame, settings: Mapping[str, Any], quality: Mapping[str, Any] | None = None
) -> SetDescription:
    """Returns what a plan and settings ask for, and which gate is to judge it."""
    return SetDescription(
        fingerprint=hash_plan(plan, settings),
        settings=dict(settings),
        image_count=len(plan),
        truncated_prompt_count=0,
        # groupby(sort=False): plan order is the order in which shards are made, and earlier samples must come first.
        # Of a shard's own rows only: a plan that grew at its end keeps its full shards.
        shards={str(name): hash_plan(rows, settings) for name, rows in plan.groupby("shard_id", sort=False)},
        quality=dict(quality or {}),
    )


def shard_path(folder: Path, shard_id: str) -> Path:
    """Returns where a shard is."""
    return Path(folder) / f"{shard_id}.tar"


def quarantine_path(folder: Path, shard_id: str) -> Path:
    """Returns where the refused images of a shard are, if there are any."""
    return shard_path(folder, f"{QUARANTINE}/{shard_id}")


def write_judged(
    folder: Path, shard_id: str, fingerprint: str, accepted: Sequence[ImageRecord], refused: Sequence[ImageRecord]
) -> bool:
    """Writes a shard and, if any image was refused, its quarantine; says whether a file is another than before."""
    is_written = False
    # Before the shard, whose header says how many are refused: a shard that is there has its quarantine.
    if refused:
        is_written = write_shard(quarantine_path(folder, shard_id), fingerprint, refused)
    path = shard_path(folder, shard_id)
    return write_shard(path, fingerprint, accepted, quarantined_count=len(refused)) or is_written


def missing_shards(folder: Path, description: SetDescription) -> list[str]:
    """Returns the ids of the shards that are absent, cut short or made from something else, in plan order.

    Only the start and the end of each file are read, so 100,000 images are checked in a blink; contents are checked
    against their hashes whenever they are read.
    """
    return [name for name, wanted in description.shards.items() if not _is_whole(folder, name, wanted)]


def _is_whole(folder: Path, shard_id: str, fingerprint: str) -> bool:
    """Says whether a shard is there, with its quarantine if it has one, and was made from just this."""
    try:
        shard = probe_shard(shard_path(folder, shard_id))
        if shard.quarantined_count and probe_shard(quarantine_path(folder, shard_id)).fingerprint != fingerprint:
            return False
        return shard.fingerprint == fingerprint
    except (FileNotFoundError, ShardError):
        return False


def read_description(folder: Path, name: str = COMPLETE_FILE) -> SetDescription | None:
    """Returns what a folder says of its set, or None if it does not.

    Args:
        folder: Home of the shards.
        name: ``set.json``, or ``set.unfinished.json`` for what is being made.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(folder) / name
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found a {type(content).__name__}")
        # Its own hash, not SHA256SUMS: this file's appearing completes a set, and two files cannot appear at once.
        checksum = content.pop(CHECKSUM_KEY, None)  # earlier versions wrote none
        if checksum not in (None, _hash_json(content)):
            raise ValueError("its content is not what its checksum was taken from")
        description = SetDescription(**content)
        if all(isinstance(part, dict) for part in (description.shards, description.settings, description.quarantined)):
            return description
        reason = "shards, settings and quarantined must be objects"
    except (ValueError, TypeError) as error:
        reason = str(error)
    raise ValueError(
        f"{path} does not describe a generated set ({reason}). "
        f"Write it again (good shards are kept): {remake(path.parent.parent)}"
    )


def write_description(folder: Path, description: SetDescription, name: str) -> None:
    """Writes a description with its checksum, as a whole or not at all."""
    content = json.loads(json.dumps(asdict(description)))  # as a reader will have it: tuples are lists
    with atomic_write(Path(folder) / name) as partial:
        partial.write_text(json.dumps(content | {CHECKSUM_KEY: _hash_json(content)}, indent=1), encoding="utf-8")


def _hash_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_images(folder: Path) -> "ShardImages":
    """Returns the images of the complete set whose shards lie in a folder.

    Raises:
        FileNotFoundError: If the set is not complete; says how many shards are missing and how to go on.
        ValueError: If its description is damaged.
    """
    resume = remake(Path(folder).absolute().parent)
    description = read_description(folder)
    wanted = description or read_description(folder, UNFINISHED_FILE)
    if wanted is None:
        raise FileNotFoundError(f"There is no generated set in {folder}. Make it with: {resume}")
    missing = missing_shards(folder, wanted)
    if missing:
        raise FileNotFoundError(
            f"The generated set in {folder} is incomplete: {len(missing)} of {len(wanted.shards)} shards missing "
            f"or cut short (first: {missing[0]}.tar). Resume with: {resume}"
        )
    if description is None:
        raise FileNotFoundError(
            f"The generated set in {folder} has all {len(wanted.shards)} shards but was not closed. "
            f"Close it with: {resume}"
        )
    return ShardImages(folder, description)


class ShardImages:
    """The images of a complete set by key, each read from its place in its shard.

    The first look-up reads the headers of all shards; nothing stays open, so instances may be pickled and shared
    between processes.

    Args:
        folder: Home of the shards.
        description: What ``set.json`` says.

    Attributes:
        modality: ``generated``: these images may only go through the generated route of a student.
        folder: Home of the shards.
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

    @property
    def identity(self) -> dict[str, str]:
        """What tells the set from others: its ``name``, and hashes of what was made and of the gate that judged it."""
        gate = json.dumps(dict(self.description.quality), sort_keys=True)
        name = self.folder.absolute().parent.name  # the folder itself is always called shards
        return {"name": name, "fingerprint": self.fingerprint, "gate": hashlib.sha256(gate.encode()).hexdigest()}

    def __len__(self) -> int:
        return self.description.image_count - sum(self.description.quarantined.values())

    def keys(self) -> Iterator[str]:
        """Yields the key of every image that may be used, shard by shard."""
        yield from self._index

    def locate(self, key: str) -> Location:
        """Returns where an image lies.

        Raises:
            FileNotFoundError: If the set has no such image, or it is quarantined.
        """
        if key in self._index:
            return self._index[key]
        if key in self.quarantined:
            refused = self.quarantined[key]
            raise FileNotFoundError(
                f"The image {key!r} of the generated set in {self.folder} is quarantined "
                f"({refused.reason}: {refused.detail}); it must not be used."
            )
        raise FileNotFoundError(
            f"The generated set in {self.folder} has no image {key!r}; it has {len(self)}, such as "
            f"{next(self.keys(), None)!r}. Was the pair table made from another set?"
        )

    def shard_of(self, key: str) -> str:
        """Returns the id of the shard an image lies in; raises as ``locate``."""
        return self.locate(key).shard_id

    def stamp(self, key: str) -> str:
        """Returns what changes when the image does, without reading it: its shard's fingerprint and its key."""
        return f"{self.description.shards[self.shard_of(key)]} {key}"

    def read(self, key: str) -> bytes:
        """Returns the JPEG of an image, checked against the hash beside it: a fifth of a millisecond each.

        Raises:
            FileNotFoundError: If the set has no such image, or its shard is gone.
            ShardError: If the image is not the one that was written, or the shard was cut short.
        """
        return self._read(key, self.locate(key))

    def read_quarantined(self, key: str) -> bytes:
        """Returns the JPEG of a refused image, to look at; empty where none was made.

        Raises:
            KeyError: If the image is not quarantined.
        """
        return self._read(key, self.quarantined[key].place)

    def seeds(self) -> dict[str, int]:
        """Returns the seed that each image was made with, refused ones included; a retry's is not the plan's."""
        paths = [shard_path(self.folder, name) for name in (*self.description.shards, *self._quarantine_ids())]
        return {facts["key"]: facts["seed"] for path in paths for facts in read_facts(path)}

    @cached_property
    def quarantined(self) -> dict[str, Quarantined]:
        """The images that the gate refused, by key."""
        found = {}
        for shard_id in self._quarantine_ids():
            places = index_shard(shard_path(self.folder, shard_id))
            for facts in read_facts(shard_path(self.folder, shard_id)):
                place = Location(shard_id, *places[facts["key"]])
                found[facts["key"]] = Quarantined(place, facts["reason"], facts["detail"])
        return found

    def _quarantine_ids(self) -> list[str]:
        if not self.description.quarantined:
            return []
        there = [name for name in self.description.shards if quarantine_path(self.folder, name).is_file()]
        return [f"{QUARANTINE}/{name}" for name in there]

    def _read(self, key: str, place: Location) -> bytes:
        return read_image(shard_path(self.folder, place.shard_id), key, place.offset).jpeg

    @cached_property
    def _index(self) -> dict[str, Location]:
        index: dict[str, Location] = {}
        for shard_id in self.description.shards:
            path = shard_path(self.folder, shard_id)
            if not path.is_file():  # sets are also opened to look at what is left of them
                raise FileNotFoundError(
                    f"The shard {path} is gone. Make it again (the others are kept): {remake(self.folder.parent)}"
                )
            for key, place in index_shard(path).items():
                index[key] = Location(shard_id, *place)
        # Headers are trusted for places only; a count that differs means that set.json is of other shards.
        if len(index) != len(self):
            raise ValueError(
                f"The shards in {self.folder} hold {len(index)} images; {COMPLETE_FILE} says {len(self)}. "
                f"Delete {COMPLETE_FILE} and close the set again: {remake(self.folder.parent)}"
            )
        return index
