import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from kedro.io import DatasetError

from gmail_kedro.datasets.table_blocks import BlocksDataset

FRAME = pd.DataFrame({"caption_id": ["a", "b", None], "seed": [1, 2, 3]})
SCHEMA = pa.schema({"caption_id": pa.string(), "seed": pa.int64()})


def stream(count: int, *, fails: bool = False) -> pa.RecordBatchReader:
    def blocks() -> Iterator[pa.RecordBatch]:
        for number in range(count):
            yield pa.RecordBatch.from_pydict({"caption_id": [f"c{number}"], "seed": [number]}, schema=SCHEMA)
        if fails:
            raise ValueError("the caption 'c7' is an orphan")

    return pa.RecordBatchReader.from_batches(SCHEMA, blocks())


def test_a_frame_and_a_stream_come_back_in_the_form_the_entry_names(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "table.parquet")
    dataset = BlocksDataset(filepath=path)
    assert not dataset.exists()
    dataset.save(FRAME.iloc[::-1])
    pd.testing.assert_frame_equal(dataset.load(), FRAME.iloc[::-1].reset_index(drop=True))
    dataset.save(stream(5))
    assert dataset.load()["caption_id"].tolist() == ["c0", "c1", "c2", "c3", "c4"]
    blocks = BlocksDataset(filepath=path, load_as="blocks").load()
    assert blocks.count_rows() == 5
    assert [block.num_rows for block in blocks.to_batches(batch_size=2)][0] <= 2
    assert dataset.exists()


def test_a_stream_that_fails_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    dataset = BlocksDataset(filepath=str(tmp_path / "table.parquet"))
    dataset.save(FRAME)
    with pytest.raises(DatasetError, match="'c7' is an orphan"):
        dataset.save(stream(3, fails=True))
    pd.testing.assert_frame_equal(dataset.load(), FRAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "table.parquet"]


def test_refuses_a_form_it_does_not_know() -> None:
    with pytest.raises(DatasetError, match="load_as of the table x.parquet must be 'frame' or 'blocks'. Got 'polars'"):
        BlocksDataset.from_config("x", {"type": BlocksDataset, "filepath": "x.parquet", "load_as": "polars"})


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = tmp_path / f"table.parquet.{socket.gethostname()}.{child.pid}.partial"
    alive = tmp_path / f"table.parquet.{socket.gethostname()}.{os.getppid()}.partial"
    for path in (dead, alive):
        path.write_bytes(b"half a table")
    BlocksDataset(filepath=str(tmp_path / "table.parquet")).save(FRAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "table.parquet", alive.name]
