"""Captions tables built column by column, a block of rows at a time, so that no row is a Python object for long."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import caption_faults, clean_captions, decode_texts, encode_text
from gmail_kedro.interfaces import ImageSource

TEXT = pa.large_string()
NOT_TEXT = "caption that is not text"


@dataclass(frozen=True)
class Reading:
    """What a reader found in the files of a corpus, before a protocol is applied.

    Attributes:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``; the files' own ``split``, the
            ``filename``, and the picture's ``position`` in the file, from 0, where the layout has them.
        images: The pictures by ``image_id``.
        skipped: What was left out, and why.
    """

    captions: pd.DataFrame
    images: ImageSource
    skipped: Skipped = field(default_factory=Skipped)


class CaptionColumns:
    """Collects blocks of captions.

    Args:
        names: The columns of every block; ``caption`` is cleaned.
        skipped: Where captions that cannot be used are counted.
    """

    def __init__(self, names: tuple[str, ...], skipped: Skipped) -> None:
        self._schema = pa.schema([(name, TEXT) for name in names])
        self._skipped = skipped
        self._blocks: list[pa.RecordBatch] = []

    def add(self, *columns: pa.Array | pa.ChunkedArray, label: str) -> np.ndarray:
        """Takes a block, without its rows that have no usable caption; returns which rows were taken, bool [N].

        Args:
            *columns: Strings or bytes, in the order of the names.
            label: Name of the column that tells a person which entry is meant.
        """
        whole = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
        block = pa.RecordBatch.from_arrays([decode_texts(column)[0] for column in whole], names=self._schema.names)
        texts, undecodable = decode_texts(whole[self._schema.get_field_index("caption")])
        labels = block.column(label)
        self._count("caption that is not UTF-8", labels.take(pa.array(undecodable, pa.int64())), label)
        texts = clean_captions(texts)
        keep = pc.is_valid(texts)
        decodable = np.ones(len(texts), bool)
        decodable[undecodable] = False
        for reason, fault in caption_faults(texts).items():
            self._count(reason, labels.filter(pc.and_(fault, pa.array(decodable))), label)
            keep = pc.and_(keep, pc.invert(fault))
        place = self._schema.get_field_index("caption")
        block = block.set_column(place, self._schema.field(place), texts)
        self._blocks.append(block.filter(keep))
        return keep.to_numpy(zero_copy_only=False)

    def add_rows(self, rows: Sequence[Sequence[Any]], *, label: str) -> np.ndarray:
        """Takes a block as rows of Python values, as ``add`` does; a caption that is no text is counted too.

        Args:
            rows: Strings or None, in the order of the names; the caption may be anything.
            label: As in ``add``.
        """
        place, shown = (self._schema.get_field_index(name) for name in ("caption", label))
        is_text = [row[place] is None or isinstance(row[place], str) for row in rows]
        for row, is_usable in zip(rows, is_text, strict=True):
            if not is_usable:
                self._skipped.add(NOT_TEXT, f"{label.removesuffix('_id')} {row[shown]}: {row[place]!r:.40}")
        texts = [list(map(encode_text, row)) for row, is_usable in zip(rows, is_text, strict=True) if is_usable]
        columns = list(zip(*texts, strict=True)) or [()] * len(self._schema)
        taken = np.array(is_text, bool)
        taken[taken] = self.add(*(pa.array(column, pa.large_binary()) for column in columns), label=label)
        return taken

    def frame(self) -> pd.DataFrame:
        """Returns all blocks as one table of strings."""
        table = pa.Table.from_batches(self._blocks, self._schema)
        self._blocks = []
        return table.to_pandas(self_destruct=True)

    def _count(self, reason: str, values: pa.Array, label: str) -> None:
        self._skipped.add_all(reason, [f"{label.removesuffix('_id')} {value}" for value in values.to_pylist()])
