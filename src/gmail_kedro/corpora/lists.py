"""Columns in which a row has several captions: lists, and lists written out as text."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.columns import TEXT
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import decode_texts

NO_LIST = "caption that is no list, where the others are lists written out"
ADJACENT = re.compile(r"""['"]\s+['"]""")  # NumPy writes no commas, and Python joins what stands side by side


class WrittenLists:
    """Tells by the first block of a column of text whether it holds lists written out, and reads them if so.

    Args:
        column: Name of the column.
        skipped: Where the rows are counted that hold no list among those that do.
    """

    def __init__(self, column: str, skipped: Skipped) -> None:
        self._column, self._skipped = column, skipped
        self._is_written: bool | None = None

    def read(self, numbers: pa.Array, batch: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        """Returns a block with lists in the column if at least half of the first block's are, and as it is if not.

        Args:
            numbers: The rows' numbers.
            batch: The block; the column is text, nulls among it, or is lists already.
        """
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


def is_list(kind: pa.DataType) -> bool:
    """Returns whether values of a type are lists, of fixed size or not.

    Args:
        kind: Type of a column.
    """
    kinds = pa.types
    tests = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list, kinds.is_list_view, kinds.is_large_list_view)
    return any(test(kind) for test in tests)


def one_row_a_caption(caption_ids: pa.Array, captions: pa.Array, others: Sequence[pa.Array]) -> list[pa.Array]:
    """Returns columns in which each caption of a row's list has a row, and an id ``row_position`` of its own.

    A row whose list is empty or null keeps its id and has a caption of null, so that it is counted.

    Args:
        caption_ids: An id for each row.
        captions: The lists.
        others: More columns.

    Returns:
        The ids, the captions and the other columns.
    """
    counts = pc.fill_null(pc.list_value_length(captions), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    parents = np.repeat(np.arange(len(counts)), np.maximum(counts, 1))
    values = np.repeat(counts > 0, np.maximum(counts, 1))
    positions = np.arange(len(parents)) - np.searchsorted(parents, parents)
    places = np.cumsum(values) - 1  # of each row's caption among all that there are
    flat = pc.list_flatten(captions)
    found = flat.take(pa.array(np.where(values, places, 0), mask=~values))
    ids = [
        f"{row}_{position}" if has_list else row
        for row, position, has_list in zip(
            caption_ids.take(pa.array(parents)).to_pylist(), positions, values, strict=True
        )
    ]
    return [pa.array(ids, TEXT), found, *(column.take(pa.array(parents)) for column in others)]


def read_written_list(text: str) -> list[str | None] | None:
    """Returns the texts of a list that was written out, None among them; None if the text is no such list.

    Args:
        text: ``["a cat", "a dog"]``, ``['a cat', None]`` or ``['a cat' 'a dog']``.

    Example:
        >>> read_written_list("['a cat' 'a dog']"), read_written_list("[sic] a cat")
        (['a cat', 'a dog'], None)
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, _python_list):
        try:
            items = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        is_texts = isinstance(items, list) and all(item is None or isinstance(item, str) for item in items)
        return items if is_texts else None
    return None


def _python_list(text: str) -> Any:
    if not ADJACENT.search(text):
        return ast.literal_eval(text)
    tokens = tokenize.generate_tokens(io.StringIO(text[1:-1]).readline)
    words = [token.string for token in tokens if token.string.strip() and token.string != ","]
    return [ast.literal_eval(word) for word in words]
