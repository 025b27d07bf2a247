"""Files of a set that carry the SHA-256 of themselves: whatever reads one knows whether it is what was written.

A Parquet file holds the hash in its own metadata, so that the two appear and move together and a kill leaves no file
beside another's hash. The hash is taken with 64 zeros in its own place, as a tar header's is.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gmail_kedro.generated_sets.tables import BLOCK_ROWS
from gmail_kedro.whole_files import atomic_write

logger = logging.getLogger(__name__)
JSON_KEY = "sha256"
NO_CHECKSUM = "it carries no checksum (an earlier version or another program wrote it)"
_MARK, _BLANK, _MAGIC = "gmail_kedro.sha256", "0" * 64, b"PAR1"
# A text of 64 letters after the mark, as Thrift writes it in a Parquet file's last part.
_STORED = re.compile(re.escape(_MARK.encode()) + rb"\x18\x40([0-9a-f]{64})")
_READ_BYTES = 1 << 20


def write_parquet(path: Path, table: pd.DataFrame | pa.RecordBatchReader) -> None:
    """Writes a table with its checksum; the file appears as a whole or not at all.

    Args:
        path: The file.
        table: A data frame, whose index is left out, or a stream of blocks.

    Raises:
        OSError: If the disk refuses. Whatever the stream raises passes, too; what was there before stays.
    """
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False).to_reader(max_chunksize=BLOCK_ROWS)
    with atomic_write(path) as partial:
        with pq.ParquetWriter(partial, table.schema, use_dictionary=False) as writer:
            for block in table:
                writer.write_batch(block)
            writer.add_key_value_metadata({_MARK: _BLANK})
        with partial.open("r+b") as file:
            place = _find_checksum(file)
            if place is None:
                raise RuntimeError(f"The table {path} was written without its mark {_MARK!r}; use another pyarrow.")
            digest = _hash_around(file, place)
            file.seek(place)
            file.write(digest.encode())


def find_damage(path: Path) -> str:
    """Returns what is wrong with a Parquet file, or nothing; every byte is read once, a second a gigabyte.

    Raises:
        FileNotFoundError: If there is none.
    """
    with Path(path).open("rb") as file:
        try:
            place = _find_checksum(file)
        except ValueError as error:
            return str(error)
        if place is None:
            return NO_CHECKSUM
        file.seek(place)
        stored = file.read(len(_BLANK)).decode()
        return "" if _hash_around(file, place) == stored else "its bytes are not those that were written"


def check_parquet(path: Path, *, remedy: str) -> None:
    """Refuses a table that is not what was written; one without a checksum passes with a warning.

    Args:
        path: The file.
        remedy: What to do about it, for the message.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"The table {path} is not there. {remedy}")
    found = find_damage(path)
    if found == NO_CHECKSUM:
        logger.warning("The table %s is taken as it is: %s. %s", path, found, remedy)
    elif found:
        raise ValueError(f"The table {path} is damaged: {found}. {remedy}")


def read_parquet(path: Path, *, remedy: str) -> pd.DataFrame:
    """Returns a table whose bytes were checked; see ``check_parquet``."""
    check_parquet(path, remedy=remedy)
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"The table {path} is damaged: {' '.join(str(error).split())}. {remedy}") from error


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns JSON values with their own hash as ``sha256``."""
    return {**content, JSON_KEY: _hash_json(content)}


def without_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns JSON values without their hash; values that have none, of an earlier version, pass.

    Raises:
        ValueError: If they are not the ones it was taken from.
    """
    values = {name: value for name, value in content.items() if name != JSON_KEY}
    if JSON_KEY in content and content[JSON_KEY] != _hash_json(values):
        raise ValueError("its content is not what its checksum was taken from")
    return values


def _hash_json(content: Mapping[str, Any]) -> str:
    stored = json.loads(json.dumps(content))  # as a reader will have it: keys are text, tuples are lists
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def _find_checksum(file: BinaryIO) -> int | None:
    """Returns where a Parquet file's checksum begins, or None if it has none.

    Raises:
        ValueError: If the file does not begin and end as a Parquet file does.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(len(_MAGIC))
    file.seek(max(0, size - 8))
    length, tail = int.from_bytes(file.read(4), "little"), file.read(4)
    if (head, tail) != (_MAGIC, _MAGIC) or length > size - 12:
        raise ValueError("it is empty" if not size else f"its {size} bytes do not end as a Parquet file does")
    start = size - 8 - length
    file.seek(start)
    found = list(_STORED.finditer(file.read(length)))
    return start + found[-1].start(1) if found else None


def _hash_around(file: BinaryIO, place: int) -> str:
    """Returns the hash of a file with zeros where its checksum is."""
    digest, position = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(min(_READ_BYTES, place - position) if position < place else _READ_BYTES):
        digest.update(block)
        position += len(block)
        if position == place:
            digest.update(_BLANK.encode())
            file.seek(place + len(_BLANK))
            position += len(_BLANK)
    return digest.hexdigest()
