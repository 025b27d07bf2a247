"""Streams the wanted columns of a table file, block by block, with the numbers of the rows."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from gmail_kedro.corpora.csv_quotes import refuse_open_quote
from gmail_kedro.corpora.encodings import open_utf8
from gmail_kedro.corpora.lists import is_list
from gmail_kedro.corpora.row_numbers import RowNumbers
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import encode_text

BLOCK_BYTES = 2**21  # a row must fit; the CSV reader reads up to 32 blocks ahead
BATCH_ROWS = 65_536
BLANK_END = (b"\n\n", b"\n\r\n")
WRONG_WIDTH = "row with another number of columns"
Blocks = Iterator[tuple[pa.Array, pa.RecordBatch]]


@dataclass(frozen=True)
class Wanted:
    """What is read of a table.

    Attributes:
        columns: The columns, all of text.
        lists: Those of them that may be lists of texts.
        header: The names of all columns, if the first line of a CSV or TSV is data already.
    """

    columns: Sequence[str]
    lists: Collection[str] = ()
    header: Sequence[str] | None = None


def stream_table(path: Path, wanted: Wanted, *, rows: RowNumbers, skipped: Skipped) -> Blocks:
    """Yields the numbers of rows and the wanted columns, block by block in file order.

    Args:
        path: A ``.csv``, ``.tsv``, ``.token``, ``.parquet`` or ``.jsonl`` file.
        wanted: What to read.
        rows: Numbers the rows.
        skipped: Takes the rows that cannot be read: of a CSV or TSV those that have another number of columns than the
            first.

    Raises:
        ValueError: If the suffix is unknown, the file is empty or damaged, or a column is missing or of another type;
            the message lists those there are.
    """
    streams = {".csv": _stream_csv, ".tsv": _stream_csv, ".token": _stream_csv}
    streams |= {".parquet": _stream_parquet, ".jsonl": _stream_json_lines}
    stream = streams.get(path.suffix.lower())
    if stream is None:
        raise ValueError(f"The table '{path}' must end in one of {sorted(streams)}. Got {path.suffix!r} instead.")
    try:
        yield from stream(path, wanted, rows, skipped)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"The table '{path}' cannot be read as {path.suffix}: {str(error).splitlines()[0]} "
            "If the download broke off, fetch it again."
        ) from error
    rows.end_file()


def _stream_csv(path: Path, wanted: Wanted, rows: RowNumbers, skipped: Skipped) -> Blocks:
    from pyarrow import csv

    is_quoted = path.suffix.lower() == ".csv"
    names = list(wanted.columns)
    if is_quoted:
        refuse_open_quote(path)
    with _open_rows(path) as file:  # the header may stand below blank lines
        above = 0 if wanted.header else sum(1 for _ in takewhile(lambda line: not line.strip(), file))
    first = above + (1 if wanted.header else 2)  # Arrow's number of the first row

    def count(row: Any) -> str:
        number = rows.leave_out(row.number - first)
        line_count = row.text.strip().count("\n") + 1  # a quote that does not close takes the lines below into its row
        skipped.add(WRONG_WIDTH, f"row {number}: {row.text[:60]!r}", count=line_count)
        return "skip"

    def options(handler: Any) -> tuple[csv.ReadOptions, csv.ParseOptions]:
        return csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=wanted.header, skip_rows=above
        ), csv.ParseOptions(
            delimiter="," if is_quoted else "\t",
            quote_char='"' if is_quoted else False,
            newlines_in_values=is_quoted,
            ignore_empty_lines=False,  # they are rows too: left out, they would move the numbers of all below
            invalid_row_handler=handler,
        )

    with (
        _open_rows(path) as file,
        csv.open_csv(file, *options(lambda row: "skip"), csv.ConvertOptions(check_utf8=False)) as reader,
    ):
        found = _names_of(reader, path)
    hint = "" if wanted.header else " If its first line is data already, name all columns: header: [caption, url]."
    _require_columns(path, names, found, hint)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_binary()), include_columns=names, strings_can_be_null=False
    )
    with _open_rows(path) as file, csv.open_csv(file, *options(count), convert) as reader:
        for batch in reader:
            yield rows.take(len(batch)), batch


def refuse_blank_end(path: Path) -> None:
    """Refuses a table with blank lines at its end, which elsewhere are no rows: here they would move what follows.

    Args:
        path: A table whose rows are known by their number, and after which another one goes on.

    Raises:
        ValueError: If it ends so.
    """
    if path.suffix.lower() != ".parquet":
        with open_utf8(path) as file:
            if _end_of(file).endswith(BLANK_END):
                raise ValueError(
                    f"The table '{path}' ends in blank lines, and another one goes on after it: where pictures are "
                    "called by their row, nobody can say whether these are rows. Remove them, or, where pictures "
                    "belong to them, write rows with an empty caption."
                )


def _open_rows(path: Path) -> BinaryIO:
    """Opens a file of lines without the blank ones at its end, which are no rows."""
    file = open_utf8(path)
    end = _end_of(file)
    if end.strip() and not end.endswith(BLANK_END):
        return file
    with file:
        content = file.read().rstrip(b"\r\n")
    if not content.strip():
        raise ValueError(f"The table '{path}' is empty. Fetch it again, or take it out.")
    return BytesIO(content + b"\n")


def _end_of(file: BinaryIO) -> bytes:
    start = file.tell()
    file.seek(max(start, file.seek(0, 2) - 4))
    end = file.read()
    file.seek(start)
    return end


def _names_of(reader: Any, path: Path) -> list[str]:
    try:
        return list(reader.schema.names)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The table '{path}' must be UTF-8. Got byte {error.object[error.start]:#04x} in its header. "
            "Save it as UTF-8."
        ) from error


def _stream_parquet(path: Path, wanted: Wanted, rows: RowNumbers, skipped: Skipped) -> Blocks:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _require_columns(path, wanted.columns, file.schema_arrow.names, "")
        for name in wanted.columns:
            _require_text(path, name, file.schema_arrow.field(name).type, may_be_list=name in wanted.lists)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted.columns)):
            yield rows.take(len(batch)), batch.select(wanted.columns)


def _require_text(path: Path, name: str, kind: pa.DataType, *, may_be_list: bool) -> None:
    item = kind.value_type if may_be_list and is_list(kind) else kind
    item = item.value_type if pa.types.is_dictionary(item) else item
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    bytes_tests = (types.is_binary, types.is_large_binary, types.is_binary_view)
    if any(test(item) for test in (*tests, *bytes_tests)):
        return
    remedy = "Name another column, or write this one as text."
    if types.is_struct(item) and {"bytes", "path"} <= {field.name for field in item}:
        remedy = (
            "Pictures inside a table are not read here: write each into a file that is called by its row, as "
            "conf/own_corpus/README.md shows, and set columns: {file_pattern: '{row:09d}.jpg', caption: ...}."
        )
    expected = "text or lists of texts" if may_be_list else "text"
    raise ValueError(f"The column {name!r} of the table '{path}' must be {expected}. Got {kind} instead. {remedy}")


def _stream_json_lines(path: Path, wanted: Wanted, rows: RowNumbers, skipped: Skipped) -> Blocks:
    block: list[list[Any]] = []
    is_first = True
    with _open_rows(path) as file:
        for place, line in enumerate(file):
            row = _read_line(path, place, line, wanted, is_first=is_first) if line.strip() else None
            is_first &= row is None
            if fault := "blank line" if row is None else _find_fault(row, wanted):
                skipped.add(fault, f"row {rows.leave_out(place)}")
            elif row is not None:
                block.append(row)
            if len(block) == BATCH_ROWS:
                yield rows.take(len(block)), _block_of(block, wanted)
                block = []
    if block:
        yield rows.take(len(block)), _block_of(block, wanted)


def _read_line(path: Path, place: int, line: bytes, wanted: Wanted, *, is_first: bool) -> list[Any]:
    where = f"The table '{path}' must have a JSON object in each line."
    try:
        content = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} Line {place + 1}: {error}. If the download broke off, fetch it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} Got {line[:60]!r} in line {place + 1} instead.")
    if is_first:
        _require_columns(path, wanted.columns, list(content), "")
    return [content.get(name) for name in wanted.columns]


def _find_fault(row: list[Any], wanted: Wanted) -> str | None:
    for name, value in zip(wanted.columns, row, strict=True):
        items = value if isinstance(value, list) and name in wanted.lists else [value]
        if not all(item is None or isinstance(item, str) for item in items):
            return f"{name} that is not text"
    return None


def _block_of(block: list[list[Any]], wanted: Wanted) -> pa.RecordBatch:
    columns = [_json_column(values) for values in zip(*block, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=list(wanted.columns))


def _json_column(values: Sequence[Any]) -> pa.Array:
    if not any(isinstance(value, list) for value in values):
        return pa.array(map(encode_text, values), pa.large_binary())
    lists = (value if value is None or isinstance(value, list) else [value] for value in values)
    encoded = [None if items is None else list(map(encode_text, items)) for items in lists]
    return pa.array(encoded, pa.large_list(pa.large_binary()))


def _require_columns(path: Path, names: Sequence[str], found: list[str], hint: str) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"The table '{path}' must have the columns {list(names)}. Missing: {missing}; got {found[:12]}. Name yours "
            f"in the catalog entry: columns: {{file: ..., caption: ...}}.{hint}"
        )
