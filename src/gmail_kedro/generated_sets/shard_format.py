"""Shards: tar files of generated images that WebDataset reads, each there as a whole or not at all.

A shard starts with ``__shard__``, which carries its fingerprint (WebDataset skips such names), and holds two members an
image, ``<base>.jpg`` and ``<base>.json``, in plan order. Headers carry no time and no owner, so equal records give
equal bytes. Refused images lie in a tar of the same layout and name in ``quarantine/``, each with a ``reason``; a shard
that lacks them says in its header how many they are.

The reader trusts nothing and never extracts. Headers are parsed one block at a time and only plain files with flat
names pass, so tar's richer features (links, devices, folders, long names, compression) cannot be used against it.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gmail_kedro.generated_sets.keys import key_of, member_base
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.whole_files import atomic_write

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
HEADER_NAME = "__shard__"
QUARANTINE = "quarantine"
MAX_MEMBER_BYTES = 64 * 2**20
RESERVED_FACTS = ("key", "sha256")


def remake(folder: Path, pipeline: str = "generation") -> str:
    """Returns the command that makes again what is missing of a set, for messages; good shards are kept.

    Args:
        folder: Home of the set, or of its pairs: its name is the set's.
        pipeline: ``generation``, or ``pairing`` for the pairs.
    """
    return f'kedro run --pipeline={pipeline} --params="set={Path(folder).name},…" (with the set\'s own parameters)'


class ShardError(ValueError):
    """A shard that cannot be trusted; the message names the file, the member and what is wrong."""

    def __init__(self, path: Path, member: str, reason: str) -> None:
        self.reason = f"{member}: {reason}"
        # A shard in quarantine/ lies one folder deeper; the command needs the name of the set.
        shards = next((folder for folder in path.parents if folder.name == "shards"), path.parent)
        super().__init__(
            f"Shard {path}, {member}: {reason}. Delete the file and make it again with: {remake(shards.parent)}"
        )


class Member(NamedTuple):
    """One file in a tar: its name, the first byte of its content and its length in bytes."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the content and its padding."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


class Header(NamedTuple):
    """What a shard says of itself: its fingerprint, the first byte after it, how many images are in quarantine."""

    fingerprint: str
    end: int
    quarantined_count: int


class Entry(NamedTuple):
    """One image in a shard: its key and its two members."""

    key: str
    jpeg: Member
    facts: Member


def jpeg_sha256(jpeg: bytes) -> str:
    """Returns the SHA-256 of an encoded image, in hex."""
    return hashlib.sha256(jpeg).hexdigest()


def encode_member(name: str, content: bytes) -> bytes:
    """Returns a tar header without time or owner, the content, and its padding.

    Raises:
        ValueError: If the content is larger than a reader accepts.
    """
    if len(content) > MAX_MEMBER_BYTES:
        raise ValueError(f"{name!r} takes {len(content)} bytes; a shard's member may take {MAX_MEMBER_BYTES}.")
    header = tarfile.TarInfo(name)  # its defaults: time 0, owner 0, no names
    header.size = len(content)
    # USTAR refuses what does not fit; GNU and pax would write an extra header that the reader must refuse.
    return header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict") + content + bytes(-len(content) % BLOCK)


def encode_header(fingerprint: str, quarantined_count: int = 0) -> bytes:
    """Returns the first member of a shard."""
    content: dict[str, Any] = {"fingerprint": fingerprint, "version": 1}
    if quarantined_count:
        content["quarantined"] = quarantined_count
    return encode_member(HEADER_NAME, json.dumps(content).encode())


def encode_record(record: ImageRecord) -> bytes:
    """Returns the two members of an image.

    Raises:
        ValueError: If the facts use a reserved name or are no JSON, or the image is too large.
    """
    reserved = [name for name in RESERVED_FACTS if name in record.facts]
    if reserved:
        raise ValueError(f"The facts of {record.key!r} must not use the names {reserved}; the shard writes them.")
    facts = {"key": record.key, "sha256": jpeg_sha256(record.jpeg), **record.facts}
    # Sorted, so equal facts are equal bytes; NaN would be written as a word that no other JSON reader takes.
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    base = member_base(record.key)
    return encode_member(f"{base}.jpg", record.jpeg) + encode_member(f"{base}.json", text.encode())


def write_shard(path: Path, fingerprint: str, records: Sequence[ImageRecord], *, quarantined_count: int = 0) -> bool:
    """Writes a shard as a whole; one that holds these very bytes is not touched. Says whether it was written.

    Args:
        path: Where it goes.
        fingerprint: Hash of everything that decides the records, refused ones included.
        records: Its images, in order.
        quarantined_count: How many others lie in the shard's quarantine.

    Raises:
        ValueError: If a key is malformed or repeated, or a record cannot be encoded.
        OSError: If the disk refuses; what was there before stays.
    """
    if len({member_base(record.key) for record in records}) != len(records):
        raise ValueError(f"The keys of shard {path} repeat; every image needs a key of its own.")
    blocks = [encode_header(fingerprint, quarantined_count), *map(encode_record, records), END]
    # Its time stays, so what hangs on the file (DVC, rsync, caches) sees that nothing changed.
    if _holds(path, blocks):
        return False
    with atomic_write(path) as partial, partial.open("wb", buffering=0) as file:
        for block in blocks:
            _write(file, block)
    return True


def read_shard(path: Path) -> Iterator[ImageRecord]:
    """Yields the images of a shard in order, one in memory at a time, each checked against its hash.

    Raises:
        ShardError: If the file is no shard, is truncated, or a member has a path in its name, is a link, a
            device, a duplicate or too large, or its bytes do not match its hash.
    """
    with Path(path).open("rb") as file:
        for entry in read_entries(file, path, read_header(file, path).end):
            yield read_record(file, path, entry)


def read_facts(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON of each image of a shard without reading the images.

    Raises:
        ShardError: As ``read_shard``, but the images' hashes are not checked.
    """
    with Path(path).open("rb") as file:
        for entry in read_entries(file, path, read_header(file, path).end):
            yield read_entry_facts(file, path, entry)


def index_shard(path: Path) -> dict[str, tuple[int, int]]:
    """Returns the offset and size in bytes of each JPEG of a shard, by key; reads headers only.

    Raises:
        ShardError: As ``read_shard``, but contents are not checked.
    """
    with Path(path).open("rb") as file:
        entries = read_entries(file, path, read_header(file, path).end)
        return {entry.key: (entry.jpeg.offset, entry.jpeg.size) for entry in entries}


def read_image(path: Path, key: str, offset: int) -> ImageRecord:
    """Returns the image whose JPEG begins at a byte of a shard.

    Raises:
        FileNotFoundError: If there is no such file.
        ShardError: If another image or none is there, or its bytes do not match its hash.
    """
    with Path(path).open("rb") as file:
        entry = next(read_entries(file, path, offset - BLOCK), None)
        if entry is None or entry.key != key:
            raise ShardError(path, f"byte {offset}", f"expected the image {key!r} there")
        return read_record(file, path, entry)


def probe_shard(path: Path) -> Header:
    """Returns what a shard says of itself; reads its start and its end only.

    Raises:
        FileNotFoundError: If there is none.
        ShardError: If the file does not start or does not end as a shard does.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - len(END)))
        if size % BLOCK or file.read() != END:
            raise ShardError(
                path, "end", f"the file is truncated or damaged: its {size} bytes do not end as a tar does"
            )
        return read_header(file, path)


def read_header(file: BinaryIO, path: Path) -> Header:
    """Returns what a shard says of itself.

    Raises:
        ShardError: If the file does not start as a shard does.
    """
    first = next(read_members(file, path, 0), None)
    if first is None or first.name != HEADER_NAME:
        found = "nothing" if first is None else repr(first.name)
        raise ShardError(path, "first member", f"expected {HEADER_NAME!r}, found {found}")
    content = _read_json(file, path, first)
    fingerprint, count = content.get("fingerprint"), content.get("quarantined", 0)
    if not isinstance(fingerprint, str):
        raise ShardError(path, f"member {HEADER_NAME!r}", f"expected a fingerprint, found {fingerprint!r}")
    if not isinstance(count, int) or count < 0:
        raise ShardError(path, f"member {HEADER_NAME!r}", f"expected a count of quarantined images, found {count!r}")
    return Header(fingerprint, first.end, count)


def read_entries(file: BinaryIO, path: Path, start: int) -> Iterator[Entry]:
    """Yields the images from byte ``start`` on, without their contents.

    Raises:
        ShardError: If a member is refused by ``read_members`` or is not where a shard has it.
    """
    members = read_members(file, path, start)
    for jpeg in members:
        base, dot, extension = jpeg.name.partition(".")
        try:
            key = key_of(base)
        except ValueError as error:
            raise ShardError(path, f"member {jpeg.name!r}", str(error)) from error
        if dot + extension != ".jpg":
            raise ShardError(path, f"member {jpeg.name!r}", f"expected '{base}.jpg' here")
        facts = next(members, None)
        if facts is None or facts.name != f"{base}.json":
            found = "the end" if facts is None else repr(facts.name)
            raise ShardError(path, f"member {jpeg.name!r}", f"expected '{base}.json' after it, found {found}")
        yield Entry(key, jpeg, facts)


def read_record(file: BinaryIO, path: Path, entry: Entry) -> ImageRecord:
    """Returns an image and its facts.

    Raises:
        ShardError: If the facts are no JSON or name another image, or the image does not match its hash.
    """
    facts = read_entry_facts(file, path, entry)
    jpeg = _read_content(file, path, entry.jpeg)
    if jpeg_sha256(jpeg) != facts["sha256"]:
        raise ShardError(path, f"member {entry.jpeg.name!r}", "its bytes do not match the hash beside it")
    return ImageRecord(entry.key, jpeg, {name: fact for name, fact in facts.items() if name not in RESERVED_FACTS})


def read_entry_facts(file: BinaryIO, path: Path, entry: Entry) -> dict[str, Any]:
    """Returns the JSON of an image, ``key`` and ``sha256`` included.

    Raises:
        ShardError: If it is no JSON object, names another image or has no hash.
    """
    facts = _read_json(file, path, entry.facts)
    if facts.get("key") != entry.key or "sha256" not in facts:
        raise ShardError(
            path, f"member {entry.facts.name!r}", f"expected key {entry.key!r} and a sha256, found {facts.get('key')!r}"
        )
    return facts


def read_members(file: BinaryIO, path: Path, start: int) -> Iterator[Member]:
    """Yields the members from byte ``start`` on, up to the end mark, which must close the file.

    Raises:
        ShardError: If the file is no tar or truncated, or a member is no plain file, has a path in its name,
            repeats a name or is too large.
    """
    total = os.fstat(file.fileno()).st_size
    names: set[str] = set()
    position, last = start, "the start"
    while True:
        file.seek(position)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise ShardError(path, f"after {last}", f"the file is truncated at byte {position + len(block)}")
        if block == bytes(BLOCK):
            # One byte more than the mark has: anything behind the end would be read by other tools and not by us.
            if file.read(BLOCK + 1) != bytes(BLOCK):
                raise ShardError(path, f"after {last}", f"expected the end of the file at byte {position + len(END)}")
            return
        member = _parse_header(block, path, position, total)
        if member.name in names:
            raise ShardError(path, f"member {member.name!r}", "it occurs twice")
        names.add(member.name)
        yield member
        position, last = member.end, f"member {member.name!r}"


def _parse_header(block: bytes, path: Path, position: int, total: int) -> Member:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ShardError(path, f"byte {position}", f"expected a tar header there ({error})") from error
    place = f"member {header.name!r}"
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise ShardError(path, place, f"it is a link, device, folder or extension (tar type {header.type!r})")
    if not header.name or {"/", "\\"} & set(header.name) or header.name in (".", ".."):
        raise ShardError(path, place, "its name has a path in it; a shard holds flat names only")
    # Before a byte of it is read: the size is what the file claims, up to 8 exabytes in base 256, or negative.
    if not 0 <= header.size <= MAX_MEMBER_BYTES:
        raise ShardError(path, place, f"it claims {header.size} bytes; at most {MAX_MEMBER_BYTES} are accepted")
    member = Member(header.name, position + BLOCK, header.size)
    if member.end > total:
        raise ShardError(path, place, f"the file is truncated: it ends at byte {total}, the member at {member.end}")
    return member


def _read_content(file: BinaryIO, path: Path, member: Member) -> bytes:
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) != member.size:
        raise ShardError(path, f"member {member.name!r}", "the file shrank while it was read")
    return content


def _read_json(file: BinaryIO, path: Path, member: Member) -> dict[str, Any]:
    try:
        content = json.loads(_read_content(file, path, member))
    except (ValueError, RecursionError) as error:  # brackets nested 100,000 deep exhaust the parser's stack
        if isinstance(error, ShardError):
            raise
        raise ShardError(path, f"member {member.name!r}", f"it is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ShardError(path, f"member {member.name!r}", f"expected a JSON object, found a {type(content).__name__}")
    return content


def _holds(path: Path, blocks: Sequence[bytes]) -> bool:
    if not path.is_file() or path.stat().st_size != sum(map(len, blocks)):
        return False
    with path.open("rb") as file:
        return all(file.read(len(block)) == block for block in blocks)


def _write(file: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:  # an unbuffered write may take a part, as at a disk's end
        rest = rest[file.write(rest) :]
