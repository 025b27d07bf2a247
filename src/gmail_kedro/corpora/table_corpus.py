"""Reads captioned corpora that are tables: CSV, TSV, Parquet or JSON lines, with columns of files and captions."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.caption_table import TEXT, CaptionBlocks, CaptionTable
from gmail_kedro.corpora.caption_text import decode_texts, read_written_list
from gmail_kedro.corpora.find_files import find_images, require_file, require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.table_streaming import RowNumbers, Wanted, is_list, refuse_blank_end, stream_table
from gmail_kedro.images.image_files import ImageFiles

NO_LIST = "caption that is no list, where the others are lists written out"


@dataclass(frozen=True)
class TableColumns:
    """Which column of a table holds what."""

    file: str = "file"  # the image's path below the images folder
    caption: str = "caption"  # the caption, or a list of captions, also one that is written out as text
    split: str | None = None
    # In place of file: the path made from the row's number in the file, from 0, such as {row:09d}.jpg. Rows that cannot
    # be read have a number too; a header has none.
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
) -> CaptionTable:
    """Returns the captions of a table, row by row; rows that name the same file caption the same image.

    The suffix says what the table is: ``.csv`` (quoted where needed), ``.tsv`` (nothing is quoted), ``.parquet``, or
    ``.jsonl``. Images are called by their path below ``images``, captions by the number of their row, from 0; those
    of a list have its place behind it.

    Args:
        annotations: The table, or a pattern such as ``part-*.parquet`` whose files follow one another by name.
        images: The folder of the images.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        columns: The fields of ``TableColumns`` that differ from the defaults.
        header: The columns' names, for a CSV or TSV whose first line is data already.
        skip_missing: Leave out, and count, rows whose image is not there, as those of dead links are.

    Raises:
        FileNotFoundError: If there is no such table or folder.
        ValueError: If a column is missing or not of text, a table is damaged, or there is no row at all.
    """
    wanted = TableColumns(**(columns or {}))
    source = ImageFiles(require_folder(images, name=name, home=home))
    skipped, rows = Skipped(), RowNumbers()
    written = WrittenLists(wanted.caption, skipped)
    blocks = CaptionBlocks(["caption_id", "image_id", "caption", *(["split"] if wanted.split else [])], skipped)
    content = Wanted(wanted.names, lists=[wanted.caption], header=header)
    tables = _find_tables(annotations, name=name, home=home)
    if wanted.file_pattern:
        for path in tables[:-1]:
            refuse_blank_end(path)
    for path in tables:
        for block in stream_table(path, content, rows=rows, skipped=skipped):
            ids, paths, captions, *split = _columns_of(*written.read(*block), wanted)
            paths, usable = find_images(paths, ids, source.folder, skipped, skip_missing=skip_missing)
            blocks.add(*(column.filter(usable) for column in (ids, paths, captions, *split)))
    if not rows.total:
        raise ValueError(f"The table '{annotations}' of the corpus {name!r} has no rows. Fill it, or name another.")
    return CaptionTable(blocks.frame(), source, skipped)


class WrittenLists:
    """Tells by the first block of a column of text whether it holds lists written out, and reads them if so.

    CSVs of hubs have all captions of an image in one cell. By the block and not by the cell: a caption may begin with
    a bracket, and a list may be broken; rows that hold no list among those that do are counted.
    """

    def __init__(self, column: str, skipped: Skipped) -> None:
        self._column, self._skipped = column, skipped
        self._is_written: bool | None = None

    def read(self, numbers: pa.Array, batch: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        """Returns a block and its rows' numbers, with lists in the column if at least half of the first block's are."""
        captions = batch.column(self._column)
        if self._is_written is False or is_list(captions.type):
            return numbers, batch
        texts = decode_texts(captions)[0]
        lists = [None if row is None else read_written_list(row) for row in texts.to_pylist()]
        is_filled = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(texts), ""), False)
        is_strange = pc.and_(is_filled, pa.array([found is None for found in lists], pa.bool_()))
        if self._is_written is None and pc.any(is_filled).as_py():
            self._is_written = 2 * is_strange.true_count <= is_filled.true_count
        if not self._is_written:
            return numbers, batch
        self._skipped.add_all(NO_LIST, [f"row {number}" for number in numbers.filter(is_strange).to_pylist()])
        place = batch.schema.get_field_index(self._column)
        batch = batch.set_column(place, self._column, pa.array(lists, pa.large_list(TEXT)))
        return numbers.filter(pc.invert(is_strange)), batch.filter(pc.invert(is_strange))


def one_row_a_caption(caption_ids: pa.Array, captions: pa.Array, others: Sequence[pa.Array]) -> list[pa.Array]:
    """Returns ids, captions and other columns in which each caption of a row's list has a row of its own.

    Its id is ``row_position``. A row whose list is empty or null keeps its id and has a caption of null, so that it is
    counted.
    """
    ids: list[str] = []
    found: list[Any] = []  # texts, or bytes that may be no text
    parents: list[int] = []
    for row, (caption_id, listed) in enumerate(zip(caption_ids.to_pylist(), captions.to_pylist(), strict=True)):
        ids += [f"{caption_id}_{position}" for position in range(len(listed))] if listed else [caption_id]
        found += listed or [None]
        parents += [row] * len(listed or [None])
    rows = pa.array(parents, pa.int64())
    return [pa.array(ids, TEXT), pa.array(found, captions.type.value_type), *(column.take(rows) for column in others)]


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
    if is_list(captions.type):
        ids, captions, paths, *split = one_row_a_caption(ids, captions, [paths, *split])
    return [ids, paths, captions, *split]
