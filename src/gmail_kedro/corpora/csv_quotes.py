"""Finds a quote of a CSV that does not close: the rows below it would become one, and its caption theirs."""

import csv
from collections import deque
from io import TextIOWrapper
from pathlib import Path

from gmail_kedro.corpora.encodings import open_utf8

BLOCK_BYTES = 2**21


def refuse_open_quote(path: Path) -> None:
    """Refuses a CSV whose quotes do not pair; a single one within an unquoted cell (5" wall) is text.

    Args:
        path: The file.

    Raises:
        ValueError: If a quote opens and does not close.
    """
    with open_utf8(path) as file:
        quotes = sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK_BYTES), b""))
    if quotes % 2 == 0:
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
