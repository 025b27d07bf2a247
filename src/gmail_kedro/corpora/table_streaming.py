"""Streams the wanted columns of a table file, block by block, with the numbers that its rows have in the file.

Tools such as img2dataset call an image by its row. So a row that cannot be read must keep its number, or every
image below it would get its neighbour's caption; no reader of CSV or JSON lines gives such numbers back.
"""

import csv
import json
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from gmail_kedro.corpora.caption_text import encode_text
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.text_files import open_utf8

BLOCK_BYTES = 2**21  # a row must fit; the CSV reader reads up to 32 blocks ahead
BATCH_ROWS = 65_536
BLANK_END = (b"\n\n", b"\n\r\n")
WRONG_WIDTH = "row with another number of columns"
Blocks = Iterator[tuple[pa.Array, pa.RecordBatch]]

_LISTS = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
_TEXTS = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view", "is_null")


class RowNumbers:
    """Numbers the rows of tables that follow one another, from 0, those that are left out among them."""

    def __init__(self) -> None:
        self._file = 0  # number of the first row of this file
        self._next = 0
        self._left_out: list[int] = []  # a parser reads ahead: some of these come after the rows it has given back

    def leave_out(self, place: int) -> int:
        """Counts a row that is not among those taken, by its place in its file, from 0; returns its number."""
        self._left_out.append(self._file + place)
        return self._left_out[-1]

    def take(self, count: int) -> pa.Array:
        """Returns the numbers of the next rows that are not left out, int64 [count]; all before them are known."""
        known = np.array(self._left_out, np.int64)
        numbers = np.setdiff1d(np.arange(self._next, self._next + count + len(known)), known)[:count]
        if count:
            self._next = int(numbers[-1]) + 1
            self._left_out = [number for number in self._left_out if number >= self._next]
        return pa.array(numbers, pa.int64())

    def end_file(self) -> None:
        """Ends a file: the rows after its last row that was taken are counted too."""
        self._next = max([self._next, *(number + 1 for number in self._left_out)])
        self._file, self._left_out = self._next, []

    @property
    def total(self) -> int:
        """How many rows the files had that have ended."""
        return self._file


@dataclass(frozen=True)
class Wanted:
    """What is read of a table."""

    columns: Sequence[str]  # all of text
    lists: Collection[str] = ()  # those of them that may be lists of texts
    header: Sequence[str] | None = None  # names of all columns, if the first line of a CSV or TSV is data already


def is_list(kind: pa.DataType) -> bool:
    """Returns whether the values of a column's type are lists of any of Arrow's five kinds."""
    return any(getattr(pa.types, test)(kind) for test in _LISTS)


def stream_table(path: Path, wanted: Wanted, *, rows: RowNumbers, skipped: Skipped) -> Blocks:
    """Yields the numbers of rows and the wanted columns, block by block in file order.

    Args:
        path: A ``.csv``, ``.tsv``, ``.token``, ``.parquet`` or ``.jsonl`` file.
        wanted: What to read.
        rows: Numbers the rows.
        skipped: Counts the rows that cannot be read.

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
    from pyarrow import csv as arrow_csv

    is_quoted = path.suffix.lower() == ".csv"  # published TSVs (Conceptual Captions) hold single quotes as they are
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

    def open_csv(file: BinaryIO, handler: Any, **convert: Any) -> Any:
        # One thread: only then does Arrow give the handler the numbers of the rows.
        read = arrow_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=wanted.header, skip_rows=above
        )
        parse = arrow_csv.ParseOptions(
            delimiter="," if is_quoted else "\t",
            quote_char='"' if is_quoted else False,
            newlines_in_values=is_quoted,
            ignore_empty_lines=False,  # they are rows too: left out, they would move the numbers of all below
            invalid_row_handler=handler,
        )
        return arrow_csv.open_csv(file, read, parse, arrow_csv.ConvertOptions(**convert))

    # Opened once for the header alone: asked for columns that are absent, Arrow does not say which there are.
    with _open_rows(path) as file, open_csv(file, lambda row: "skip", check_utf8=False) as reader:
        found = _names_of(reader, path)
    hint = "" if wanted.header else " If its first line is data already, name all columns: header: [caption, url]."
    _require_columns(path, names, found, hint)
    # As bytes, so that one row that is not UTF-8 is counted and does not end the file; and "NA" stays a word.
    convert = {"column_types": dict.fromkeys(names, pa.large_binary()), "strings_can_be_null": False}
    with _open_rows(path) as file, open_csv(file, count, include_columns=names, **convert) as reader:
        for batch in reader:
            yield rows.take(len(batch)), batch


def refuse_open_quote(path: Path) -> None:
    """Refuses a CSV with a quote that does not close: the rows below it would become one, and its caption theirs.

    A single one within an unquoted cell (5" wall) is text.
    """
    with open_utf8(path) as file:
        quotes = sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK_BYTES), b""))
    if quotes % 2 == 0:  # which is quick to see, and spares most files Python's parser
        return
    with open_utf8(path) as file:
        reader = csv.reader(TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""), strict=True)
        try:
            deque(reader, maxlen=0)
        except csv.Error as error:
            raise ValueError(
                f"The table '{path}' has a quote that does not close, in or above line {reader.line_num} ({error}): "
                'the rows below it would become one. Close it; within a quoted cell, write it twice ("").'
            ) from error


def refuse_blank_end(path: Path) -> None:
    """Refuses a table with blank lines at its end, where its rows are known by their number and another one follows."""
    if path.suffix.lower() != ".parquet":
        with open_utf8(path) as file:
            if _end_of(file).endswith(BLANK_END):
                raise ValueError(
                    f"The table '{path}' ends in blank lines, and another one goes on after it: where images are "
                    "called by their row, nobody can say whether these are rows. Remove them, or, where images "
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
    """Refuses a column of numbers or structures, which Arrow would cast to texts such as "5" without a word."""
    item = kind.value_type if may_be_list and is_list(kind) else kind
    item = item.value_type if pa.types.is_dictionary(item) else item
    if any(getattr(pa.types, test)(item) for test in _TEXTS):
        return
    remedy = "Name another column, or write this one as text."
    if pa.types.is_struct(item) and {"bytes", "path"} <= {field.name for field in item}:  # the datasets library's
        remedy = (
            "Images inside a table are not read here: write each into a file that is called by its row, as "
            "conf/own_corpus/README.md shows, and set columns: {file_pattern: '{row:09d}.jpg', caption: ...}."
        )
    expected = "text or lists of texts" if may_be_list else "text"
    raise ValueError(f"The column {name!r} of the table '{path}' must be {expected}. Got {kind} instead. {remedy}")


def _stream_json_lines(path: Path, wanted: Wanted, rows: RowNumbers, skipped: Skipped) -> Blocks:
    # Python's parser: Arrow's refuses a file in which a column is text in one row and a list in another.
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
