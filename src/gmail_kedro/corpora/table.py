"""Reads captioned corpora that are tables: CSV, TSV, Parquet or JSON lines, with columns of files and captions."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gmail_kedro.corpora.columns import TEXT, CaptionColumns, Reading
from gmail_kedro.corpora.lists import WrittenLists, is_list, one_row_a_caption
from gmail_kedro.corpora.picture_files import find_pictures
from gmail_kedro.corpora.row_numbers import RowNumbers
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.table_files import Wanted, refuse_blank_end, stream_table
from gmail_kedro.corpora.tree import TreeImages, require_file, require_folder


@dataclass(frozen=True)
class TableColumns:
    """Which column of a table holds what.

    Attributes:
        file: The picture's path below the images folder.
        caption: The caption, or a list of captions; where the rows hold lists written out as text, these are read.
        split: The split, or None where the table has none.
        file_pattern: In place of ``file``: the path made from the row's number in the file, from 0, such as
            ``{row:09d}.jpg``. Rows that cannot be read have a number too; a header has none.
    """

    file: str = "file"
    caption: str = "caption"
    split: str | None = None
    file_pattern: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        wanted = [None if self.file_pattern else self.file, self.caption, self.split]
        return [column for column in wanted if column is not None]


def read_table(
    annotations: str | Path,
    images: Path,
    *,
    name: str,
    home: str = "",
    columns: Mapping[str, str] | None = None,
    header: Sequence[str] | None = None,
    skip_missing: bool = False,
) -> Reading:
    """Returns the captions of a table, row by row; rows that name the same file caption the same picture.

    The suffix says what the table is: ``.csv`` (quoted where needed), ``.tsv`` (nothing is quoted), ``.parquet``, or
    ``.jsonl``. Pictures are called by their path below ``images``, captions by the number of their row, from 0; those
    of a list have its place behind it.

    Args:
        annotations: The table, or a pattern such as ``part-*.parquet`` whose files follow one another by name.
        images: The folder of the pictures.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        columns: The fields of ``TableColumns`` that differ from the defaults.
        header: The columns' names, for a CSV or TSV whose first line is data already.
        skip_missing: Leave out, and count, rows whose picture is not there, as those of dead links are.

    Raises:
        FileNotFoundError: If there is no such table or folder.
        ValueError: If a column is missing or not of text, a table is damaged, or there is no row at all.
    """
    wanted = TableColumns(**(columns or {}))
    pictures = TreeImages(require_folder(images, name=name, home=home))
    skipped, rows = Skipped(), RowNumbers()
    written = WrittenLists(wanted.caption, skipped)
    names = ("caption_id", "image_id", "caption", *(["split"] if wanted.split else []))
    table = CaptionColumns(names, skipped)
    content = Wanted(wanted.names, lists=[wanted.caption], header=header)
    tables = _find_tables(annotations, name=name, home=home)
    if wanted.file_pattern:
        for path in tables[:-1]:
            refuse_blank_end(path)
    for path in tables:
        for block in stream_table(path, content, rows=rows, skipped=skipped):
            ids, paths, captions, *split = _columns_of(*written.read(*block), wanted)
            paths, usable = find_pictures(paths, ids, pictures, skipped, skip_missing=skip_missing)
            table.add(*(column.filter(usable) for column in (ids, paths, captions, *split)), label="caption_id")
    if not rows.total:
        raise ValueError(f"The table '{annotations}' of the corpus {name!r} has no rows. Fill it, or name another.")
    return Reading(table.frame(), pictures, skipped)


def _find_tables(annotations: str | Path, *, name: str, home: str) -> list[Path]:
    found = sorted(glob.glob(str(annotations))) if "*" in str(annotations) else []
    return [Path(path) for path in found] or [require_file(Path(annotations), name=name, home=home)]


def _columns_of(numbers: pa.Array, batch: pa.RecordBatch, wanted: TableColumns) -> list[pa.Array]:
    """Returns a block's caption ids, paths, captions and, where the table has them, splits."""
    if wanted.file_pattern is None:
        paths = batch.column(wanted.file)
    else:
        paths = pa.array([wanted.file_pattern.format(row=number) for number in numbers.to_pylist()], TEXT)
    ids, captions = numbers.cast(TEXT), batch.column(wanted.caption)
    split = [batch.column(wanted.split)] if wanted.split else []
    if not is_list(captions.type):
        return [ids, paths, captions, *split]
    ids, captions, paths, *split = one_row_a_caption(ids, captions, [paths, *split])
    return [ids, paths, captions, *split]
