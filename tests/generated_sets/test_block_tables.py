"""A table that is not what was written is never taken for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmail_kedro.generated_sets.block_tables import check_parquet, read_parquet, write_parquet
from gmail_kedro.whole_files import SUMS

FRAME = pd.DataFrame({"caption_id": [*"abc", "0" * 64], "seed": np.arange(4)})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "plan.parquet", FRAME)
    return tmp_path / "plan.parquet"


def test_a_table_comes_back_and_any_other_reader_reads_it_too(table: Path) -> None:
    pd.testing.assert_frame_equal(read_parquet(table, remedy=""), FRAME)
    pd.testing.assert_frame_equal(pd.read_parquet(table), FRAME)


def test_equal_tables_have_equal_bytes(table: Path) -> None:
    stream = pa.Table.from_pandas(FRAME, preserve_index=False).to_reader()
    write_parquet(table.with_name("again.parquet"), stream)
    assert table.with_name("again.parquet").read_bytes() == table.read_bytes()


def test_every_changed_byte_is_found(table: Path) -> None:
    whole = table.read_bytes()
    for position in range(len(whole)):
        table.write_bytes(whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :])
        with pytest.raises(ValueError, match=r"plan.parquet is damaged: .* is not what was written: .* Do this."):
            check_parquet(table, remedy="Do this.")


@pytest.mark.parametrize("part", [0, 3, 11, 100, -1])
def test_a_cut_table_is_refused_with_the_file_and_the_remedy(table: Path, part: int) -> None:
    table.write_bytes(table.read_bytes()[:part])
    with pytest.raises(ValueError, match=r"The table .*plan.parquet is damaged: .*. Do this."):
        read_parquet(table, remedy="Do this.")


def test_a_table_whose_writing_fails_keeps_its_checksum(table: Path) -> None:
    broken = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), (1 // 0 for _ in range(1)))
    with pytest.raises(ZeroDivisionError):
        write_parquet(table, broken)
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        check_parquet(table, remedy="")


def test_a_table_without_a_checksum_passes_and_is_told(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    (table.parent / SUMS).unlink()
    check_parquet(table, remedy="Do this.")
    assert "SHA256SUMS has no line of it" in caplog.text and "Do this." in caplog.text


def test_a_damaged_table_without_a_checksum_is_refused_in_our_words(table: Path) -> None:
    (table.parent / SUMS).unlink()
    pq.write_table(pa.table({"text": ["one " * 999]}), table, compression="zstd")
    content = bytearray(table.read_bytes())
    content[4:40] = bytes(36)
    table.write_bytes(content)
    with pytest.raises(ValueError, match=r"The table .*plan.parquet is damaged: .*Do this."):
        read_parquet(table, remedy="Do this.")


def test_a_missing_table_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"The table .*pairs.parquet is not there. Do this."):
        check_parquet(tmp_path / "pairs.parquet", remedy="Do this.")
