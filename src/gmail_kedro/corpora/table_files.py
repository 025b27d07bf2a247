"""Streams the wanted columns of a table file, block by block."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gmail_kedro.corpora.skipping import Skipped

BLOCK_BYTES = 2**21  # a row must fit; the CSV reader reads up to 32 blocks ahead
BATCH_ROWS = 65_536
WRONG_WIDTH = "row with another number of columns"


def stream_table(
    path: Path, names: Sequence[str], *, header: Sequence[str] | None, skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    """Yields blocks of the wanted columns, in file order.

    Args:
        path: A ``.csv``, ``.tsv``, ``.token``, ``.parquet`` or ``.jsonl`` file.
        names: The columns.
        header: The names of all columns, if the first line of a CSV or TSV is data already.
        skipped: Takes the rows of a CSV or TSV that have another number of columns than the first.

    Raises:
        ValueError: If the suffix is unknown, the file is empty or damaged, or a column is missing; the message lists
            those there are.
    """
    streams = {".csv": _stream_csv, ".tsv": _stream_csv, ".token": _stream_csv}
    streams |= {".parquet": _stream_parquet, ".jsonl": _stream_json_lines}
    stream = streams.get(path.suffix.lower())
    if stream is None:
        raise ValueError(f"The table '{path}' must end in one of {sorted(streams)}. Got {path.suffix!r} instead.")
    try:
        yield from stream(path, list(names), header, skipped)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"The table '{path}' cannot be read as {path.suffix}: {str(error).splitlines()[0]} "
            "If the download broke off, fetch it again."
        ) from error


def _stream_csv(
    path: Path, names: list[str], header: Sequence[str] | None, skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    is_quoted = path.suffix.lower() == ".csv"

    def count(row: Any) -> str:
        skipped.add(WRONG_WIDTH, repr(row.text[:60]))
        return "skip"

    read = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=header)
    parse = csv.ParseOptions(
        delimiter="," if is_quoted else "\t",
        quote_char='"' if is_quoted else False,
        newlines_in_values=is_quoted,
        invalid_row_handler=count,
    )
    quiet = csv.ParseOptions(
        delimiter=parse.delimiter, quote_char=parse.quote_char, newlines_in_values=is_quoted,
        invalid_row_handler=lambda row: "skip",
    )  # fmt: skip
    with csv.open_csv(path, read, quiet, csv.ConvertOptions(check_utf8=False)) as first:
        found = [name.strip("\ufeff") for name in first.schema.names]
    hint = "" if header else " If its first line is data already, name all columns: header: [caption, url]."
    _require_columns(path, names, found, hint)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_binary()), include_columns=names, strings_can_be_null=False
    )
    with csv.open_csv(path, read, parse, convert) as reader:
        yield from reader


def _stream_parquet(
    path: Path, names: list[str], header: Sequence[str] | None, skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _require_columns(path, names, file.schema_arrow.names, "")
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)


def _stream_json_lines(
    path: Path, names: list[str], header: Sequence[str] | None, skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    from pyarrow import json as arrow_json

    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        first = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"The table '{path}' must have a JSON object in each line. Line 1: {error}.") from error
    if not isinstance(first, dict):
        raise ValueError(f"The table '{path}' must have a JSON object in each line. Got {line[:60]!r} instead.")
    _require_columns(path, names, list(first), "")
    text = pa.large_string()
    types = {name: pa.list_(text) if isinstance(first[name], list) else text for name in names}
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
    read = arrow_json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    with arrow_json.open_json(path, read, parse) as reader:
        yield from reader


def _require_columns(path: Path, names: list[str], found: list[str], hint: str) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"The table '{path}' must have the columns {names}. Missing: {missing}; got {found[:12]}. Name yours "
            f"in the catalog entry: columns: {{file: ..., caption: ...}}.{hint}"
        )
