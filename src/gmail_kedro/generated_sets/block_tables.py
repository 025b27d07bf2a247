"""Tables that need not fit in memory: a data frame, an Arrow table or a Parquet file, read block by block."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from gmail_kedro.whole_files import DamagedFileError, known_write, refuse_changed

logger = logging.getLogger(__name__)
Table: TypeAlias = pd.DataFrame | pa.Table | ds.Dataset
BLOCK_ROWS = 65536


def as_dataset(table: Table) -> ds.Dataset:
    """Returns any table as an Arrow dataset; data frames keep their memory where their columns are Arrow's."""
    if isinstance(table, ds.Dataset):
        return table
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    return ds.dataset(table)


def read_blocks(table: ds.Dataset, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yields blocks of at most ``BLOCK_ROWS`` rows, in the table's order; empty ones are left out."""
    # Arrow's default reads 16 blocks ahead, which is most of the memory that a large table would take here.
    for block in table.to_batches(columns=list(columns), batch_size=BLOCK_ROWS, batch_readahead=2):
        if block.num_rows:
            yield block


def hash_texts(texts: pa.Array) -> np.ndarray:
    """Returns a 64-bit SipHash of each text, uint64 [N]; a missing text counts as empty.

    Rows that are compared by it are taken for equal wrongly with a chance of 2^-64 a comparison: among all pairs of
    12 million ids, 4 in a million.
    """
    # categorize=False: the default first builds a dictionary of all texts, which hardly repeat.
    return pd.util.hash_array(
        pc.fill_null(texts.cast(pa.large_string()), "").to_numpy(zero_copy_only=False), categorize=False
    )


def stable_numbers(prefix: str, texts: Sequence[str]) -> np.ndarray:
    """Returns the first 64 bits of the SHA-256 of ``prefix`` and each text, uint64 [N]: the same on every machine."""
    sha256 = hashlib.sha256
    digests = [sha256((prefix + text).encode(errors="surrogatepass")).digest()[:8] for text in texts]
    # Big-endian: the number is that of the hex digest's first digits, on every machine.
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.RecordBatch:
    """Returns rows int64 [N], at least one, of a table as one block; nothing is copied twice where they follow."""
    first, count = int(rows[0]), len(rows)
    if rows[-1] - first == count - 1 and (np.diff(rows) == 1).all():
        taken = table.slice(first, count)
    else:
        taken = table.take(pa.array(rows))
    return taken.combine_chunks().to_batches()[0]


def write_parquet(path: Path, table: pd.DataFrame | pa.RecordBatchReader) -> None:
    """Writes a data frame without its index, or a stream of blocks, and notes its checksum in ``SHA256SUMS``.

    The file appears as a whole or not at all: whatever the stream raises passes, and what was there before stays.
    """
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False).to_reader(max_chunksize=BLOCK_ROWS)
    with (
        known_write(path) as partial,
        # Dictionaries of texts that hardly repeat would only be memory until the row group is written.
        pq.ParquetWriter(partial, table.schema, use_dictionary=False) as writer,
    ):
        for block in table:
            writer.write_batch(block)


def check_parquet(path: Path, *, remedy: str) -> None:
    """Refuses a table that is not what was written; one without a checksum passes with a warning.

    Raises:
        FileNotFoundError: If there is none; the message ends with the remedy.
        ValueError: If it is damaged; the same.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"The table {path} is not there. {remedy}")
    try:
        if not refuse_changed(Path(path)):
            logger.warning("The table %s is taken as it is: SHA256SUMS has no line of it. %s", path, remedy)
    except DamagedFileError as error:
        raise ValueError(f"The table {path} is damaged: {error} {remedy}") from error


def read_parquet(path: Path, *, remedy: str) -> pd.DataFrame:
    """Returns a table whose bytes were checked; see ``check_parquet``."""
    check_parquet(path, remedy=remedy)
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"The table {path} is damaged: {' '.join(str(error).split())}. {remedy}") from error
