"""A table in the catalog that is written, and may be read, block by block."""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.generated_sets.block_tables import check_parquet, read_parquet, write_parquet
from gmail_kedro.generated_sets.shard_format import remake

# Arrow would keep the encoded bytes of a whole file until its last block is read.
_LEAN = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False))


class BlocksDataset(AbstractDataset[pd.DataFrame | pa.RecordBatchReader, pd.DataFrame | ds.Dataset]):
    """A Parquet file that takes a stream of blocks as well as a data frame, so a table need not fit in memory.

    The file appears as a whole or not at all: a stream that fails leaves what was there before.

    Example (YAML)::

        captions:
          type: gmail_kedro.datasets.table_blocks.BlocksDataset
          filepath: data/01_raw/captions.parquet
          load_as: blocks

    Example (Python)::

        dataset = BlocksDataset(filepath="data/01_raw/captions.parquet", load_as="blocks")
        dataset.save(pd.DataFrame({"caption_id": ["a"]}))
        dataset.load().count_rows()

    Args:
        filepath: The Parquet file.
        load_as: ``frame`` (a pandas data frame) or ``blocks`` (an Arrow dataset, read when asked for).
        made_by: The pipeline that writes it, for messages; the folder's name is the set's.
        metadata: Ignored; for other tools.

    Raises:
        ValueError: If ``load_as`` is neither.
    """

    def __init__(
        self,
        *,
        filepath: str,
        load_as: str = "frame",
        made_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if load_as not in ("frame", "blocks"):
            raise ValueError(f"load_as of the table {filepath} must be 'frame' or 'blocks'. Got {load_as!r} instead.")
        self._filepath, self._load_as, self._made_by = PurePosixPath(filepath), load_as, made_by
        self.metadata = metadata

    def save(self, data: pd.DataFrame | pa.RecordBatchReader) -> None:
        """Writes a table and notes its checksum beside it.

        Args:
            data: A data frame without its index, or a stream of blocks.

        Raises:
            DatasetError: If the stream fails, or the disk refuses.
        """
        write_parquet(Path(self._filepath), data)

    def load(self) -> pd.DataFrame | ds.Dataset:
        """Returns the table in the form the catalog entry names; its bytes are held against its checksum first.

        Raises:
            DatasetError: If there is no such file, or it is damaged; says which pipeline writes it.
        """
        path = Path(self._filepath)
        try:
            if self._load_as == "frame":
                return read_parquet(path, remedy=self._remedy())
            check_parquet(path, remedy=self._remedy())
            return ds.dataset(path, format=_LEAN)
        except (FileNotFoundError, ValueError) as error:
            raise DatasetError(str(error)) from error

    def _remedy(self) -> str:
        if self._made_by is None:
            return "Run the pipeline that writes it."
        return f"Make it first: {remake(Path(self._filepath).absolute().parent, self._made_by)}"

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "load_as": self._load_as}
