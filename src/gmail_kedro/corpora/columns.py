"""Captions tables built column by column, a block of rows at a time, so that no row is a Python object for long."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import caption_faults, clean_captions, decode_texts
from gmail_kedro.interfaces import ImageSource

TEXT = pa.large_string()


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
        for position in undecodable:
            self._skipped.add("caption that is not UTF-8", str(labels[position]))
        texts = clean_captions(texts)
        keep = pc.is_valid(texts)
        for reason, fault in caption_faults(texts).items():
            self._count(reason, fault, labels, known=undecodable if reason == "no caption" else [])
            keep = pc.and_(keep, pc.invert(fault))
        place = self._schema.get_field_index("caption")
        block = block.set_column(place, self._schema.field(place), texts)
        self._blocks.append(block.filter(keep))
        return keep.to_numpy(zero_copy_only=False)

    def frame(self) -> pd.DataFrame:
        """Returns all blocks as one table of strings."""
        table = pa.Table.from_batches(self._blocks, self._schema)
        self._blocks = []
        return table.to_pandas(self_destruct=True)

    def _count(self, reason: str, fault: pa.Array, labels: pa.Array, *, known: list[int]) -> None:
        bad = [position for position in pc.indices_nonzero(fault).to_pylist() if position not in known]
        if bad:
            self._skipped.add(reason, str(labels[bad[0]]), count=len(bad))
