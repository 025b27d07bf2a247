"""A table in the catalog that is written, and may be read, block by block."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro.io import AbstractDataset

from gmail_kedro.records.tables import BLOCK_ROWS

# Arrow would keep the encoded bytes of a whole file until its last block is read.
_LEAN = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False))


class BlocksDataset(AbstractDataset[pd.DataFrame | pa.RecordBatchReader, pd.DataFrame | ds.Dataset]):
    """A Parquet file that takes a stream of blocks as well as a data frame, so a table need not fit in memory.

    The file appears as a whole or not at all: a stream that fails leaves what was there before.

    Example (YAML)::

        captions:
          type: gmail_kedro.datasets.blocks.BlocksDataset
          filepath: data/01_raw/captions.parquet
          load_as: blocks

    Example (Python)::

        dataset = BlocksDataset(filepath="data/01_raw/captions.parquet", load_as="blocks")
        dataset.save(pd.DataFrame({"caption_id": ["a"]}))
        dataset.load().count_rows()

    Args:
        filepath: The Parquet file.
        load_as: ``frame`` (a pandas data frame) or ``blocks`` (an Arrow dataset, read when asked for).
        metadata: Ignored; for other tools.

    Raises:
        ValueError: If ``load_as`` is neither.
    """

    def __init__(self, *, filepath: str, load_as: str = "frame", metadata: dict[str, Any] | None = None) -> None:
        if load_as not in ("frame", "blocks"):
            raise ValueError(f"load_as of the table {filepath} must be 'frame' or 'blocks'. Got {load_as!r} instead.")
        self._filepath, self._load_as = PurePosixPath(filepath), load_as
        self.metadata = metadata

    def save(self, data: pd.DataFrame | pa.RecordBatchReader) -> None:
        """Writes a table.

        Args:
            data: A data frame without its index, or a stream of blocks.

        Raises:
            DatasetError: If the stream fails, or the disk refuses.
        """
        path = Path(self._filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        if isinstance(data, pd.DataFrame):
            data = pa.Table.from_pandas(data, preserve_index=False).to_reader(max_chunksize=BLOCK_ROWS)
        try:
            with pq.ParquetWriter(partial, data.schema, use_dictionary=False) as writer:
                for block in data:
                    writer.write_batch(block)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def load(self) -> pd.DataFrame | ds.Dataset:
        """Returns the table in the form the catalog entry names.

        Raises:
            DatasetError: If there is no such file, or it is not Parquet.
        """
        path = Path(self._filepath)
        return pd.read_parquet(path) if self._load_as == "frame" else ds.dataset(path, format=_LEAN)

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "load_as": self._load_as}


def _remove_left_over(path: Path) -> None:
    """Removes what processes that were killed while they wrote this table have left behind."""
    for partial in path.parent.glob(f"{path.name}.*.partial"):
        try:
            os.kill(int(partial.name.split(".")[-2]), 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
