"""Reads captioned corpora that are tables: CSV, TSV, Parquet or JSON lines, with columns of files and captions."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.columns import TEXT, CaptionColumns, Reading
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.table_files import stream_table
from gmail_kedro.corpora.texts import decode_texts
from gmail_kedro.corpora.tree import TreeImages, escapes, require_file, require_folder

MISSING = "picture that is not there"


@dataclass(frozen=True)
class TableColumns:
    """Which column of a table holds what.

    Attributes:
        file: The picture's path below the images folder.
        caption: The caption, or a list of captions.
        split: The split, or None where the table has none.
        file_pattern: In place of ``file``: the path made from the row's number, from 0, such as ``{row:09d}.jpg``.
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
    ``.jsonl``. Pictures are called by their path below ``images``, captions by the number of their row, from 0.

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
        ValueError: If a column is missing or a table is damaged.
    """
    wanted = TableColumns(**(columns or {}))
    pictures = TreeImages(require_folder(images, name=name, home=home))
    skipped = Skipped()
    names = ("caption_id", "image_id", "caption", *(["split"] if wanted.split else []))
    table, row = CaptionColumns(names, skipped), 0
    for path in _find_tables(annotations, name=name, home=home):
        for batch in stream_table(path, wanted.names, header=header, skipped=skipped):
            _add(table, batch, row, wanted, pictures, skipped, skip_missing)
            row += len(batch)
    return Reading(table.frame(), pictures, skipped)


def count_absent(
    paths: pa.Array, escaping: pa.Array, pictures: TreeImages, skipped: Skipped, *, skip_missing: bool
) -> pa.Array:
    """Returns which pictures can be used by their path, and counts the others.

    Args:
        paths: Paths below the images folder, nulls among them.
        escaping: Which of them lead out of the folder.
        pictures: Where they should be.
        skipped: Takes the counts.
        skip_missing: Look whether each is there.
    """
    absent = pc.is_null(paths)
    for reason, fault in (("no file name", absent), ("file name that leads out of the images folder", escaping)):
        bad = pc.indices_nonzero(fault)
        if len(bad):
            skipped.add(reason, repr(paths[bad[0].as_py()].as_py()), count=len(bad))
    usable = pc.invert(pc.or_(absent, escaping))
    if not skip_missing:
        return usable
    skipped.allow(MISSING)
    there = []
    for path, is_usable in zip(paths.to_pylist(), usable.to_pylist(), strict=True):
        found = is_usable and (pictures.folder / path).is_file()
        if is_usable and not found:
            skipped.add(MISSING, path)
        there.append(found)
    return pa.array(there, pa.bool_())


def _find_tables(annotations: str | Path, *, name: str, home: str) -> Iterator[Path]:
    if "*" not in str(annotations):
        yield require_file(Path(annotations), name=name, home=home)
        return
    found = sorted(glob.glob(str(annotations)))
    if not found:
        require_file(Path(annotations), name=name, home=home)
    yield from map(Path, found)


def _add(
    table: CaptionColumns,
    batch: pa.RecordBatch,
    first: int,
    wanted: TableColumns,
    pictures: TreeImages,
    skipped: Skipped,
    skip_missing: bool,
) -> None:
    numbers = pa.array(range(first, first + len(batch)), pa.int64())
    if wanted.file_pattern is None:
        paths = decode_texts(batch.column(wanted.file))[0]
    else:
        paths = pa.array([wanted.file_pattern.format(row=number) for number in numbers.to_pylist()], TEXT)
    caption_ids, captions = numbers.cast(TEXT), batch.column(wanted.caption)
    extra = [decode_texts(batch.column(wanted.split))[0]] if wanted.split else []
    columns = [caption_ids, paths, captions, *extra]
    if pa.types.is_list(captions.type) or pa.types.is_large_list(captions.type):
        columns = _one_row_a_caption(columns)
    usable = count_absent(columns[1], escapes(columns[1]), pictures, skipped, skip_missing=skip_missing)
    table.add(*(column.filter(usable) for column in columns), label="caption_id")


def _one_row_a_caption(columns: list[pa.Array]) -> list[pa.Array]:
    """Returns columns in which each caption of a row's list has a row, and an id ``row_position`` of its own."""
    caption_ids, paths, captions, *extra = columns
    parents = pc.list_parent_indices(captions)
    position: dict[int, int] = {}
    ids = []
    for parent in parents.to_pylist():
        position[parent] = position.get(parent, -1) + 1
        ids.append(f"{caption_ids[parent]}_{position[parent]}")
    rest = [column.take(parents) for column in (paths, *extra)]
    return [pa.array(ids, TEXT), rest[0], pc.list_flatten(captions), *rest[1:]]
