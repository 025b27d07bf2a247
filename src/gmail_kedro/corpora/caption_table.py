"""The table of captions that every reader returns, built a block of rows at a time.

No row is a Python object for long: 12 million captions take several times the memory as Python objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.caption_text import caption_faults, clean_captions, decode_texts, encode_text
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.interfaces import ImageSource

TEXT = pa.large_string()  # a string column of 12 million captions passes the 2 GB that 32-bit offsets reach
NOT_TEXT = "caption that is not text"


@dataclass(frozen=True)
class CaptionTable:
    """What a reader found in the files of a corpus, before a protocol is applied.

    Attributes:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``; the files' own ``split``, the
            ``filename``, and the image's ``position`` in the file, from 0, where the layout has them.
        images: The images by ``image_id``.
        skipped: What was left out, and why.
    """

    captions: pd.DataFrame
    images: ImageSource
    skipped: Skipped


class CaptionBlocks:
    """Collects blocks of captions, cleaned; those that cannot be used are counted.

    Args:
        names: The columns of every block, ``caption`` among them.
        skipped: Takes the counts.
        label: Name of the column that tells a person which entry is meant.
    """

    def __init__(self, names: Sequence[str], skipped: Skipped, *, label: str = "caption_id") -> None:
        self._schema = pa.schema([(name, TEXT) for name in names])
        self._skipped, self._label = skipped, label
        self._blocks: list[pa.RecordBatch] = []

    def add(self, *columns: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Takes columns of strings or bytes, in the order of the names; returns which rows were taken, bool [N]."""
        whole = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
        place = self._schema.get_field_index("caption")
        texts, undecodable = decode_texts(whole[place])
        texts = clean_captions(texts)  # first: a caption of white space alone is a blank one
        # What is not UTF-8 is null by now, and must not be counted again as absent.
        decodable = np.ones(len(texts), bool)
        decodable[undecodable] = False
        decoded = [texts if number == place else decode_texts(column)[0] for number, column in enumerate(whole)]
        block = pa.RecordBatch.from_arrays(decoded, schema=self._schema)
        labels = block.column(self._label)
        self._count("caption that is not UTF-8", labels.take(pa.array(undecodable, pa.int64())))
        keep = pc.is_valid(texts)
        for reason, fault in caption_faults(texts).items():
            self._count(reason, labels.filter(pc.and_(fault, pa.array(decodable))))
            keep = pc.and_not(keep, fault)
        self._blocks.append(block.filter(keep))
        return keep.to_numpy(zero_copy_only=False)

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Takes rows of strings or None as ``add`` does; a caption may be anything, and is counted if it is no text."""
        place, shown = (self._schema.get_field_index(name) for name in ("caption", self._label))
        texts = []
        for row in rows:
            if row[place] is None or isinstance(row[place], str):
                texts.append(list(map(encode_text, row)))
            else:
                self._skipped.add(NOT_TEXT, f"{self._entry(row[shown])}: {row[place]!r:.40}")
        columns = list(zip(*texts, strict=True)) or [()] * len(self._schema)
        self.add(*(pa.array(column, pa.large_binary()) for column in columns))

    def frame(self) -> pd.DataFrame:
        """Returns all blocks as one table of strings, and forgets them."""
        table = pa.Table.from_batches(self._blocks, self._schema)
        self._blocks = []
        return table.to_pandas(self_destruct=True)

    def _count(self, reason: str, labels: pa.Array) -> None:
        self._skipped.add_all(reason, list(map(self._entry, labels.to_pylist())))

    def _entry(self, label: str) -> str:
        return f"{self._label.removesuffix('_id')} {label}"
