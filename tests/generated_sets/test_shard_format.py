import errno
import os
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import webdataset

from gmail_kedro.generated_sets import shard_format as shards
from gmail_kedro.generated_sets.image_maker import encode_jpeg
from gmail_kedro.generated_sets.shard_format import (
    ShardError,
    index_shard,
    jpeg_sha256,
    probe_shard,
    read_facts,
    read_image,
    read_shard,
    write_shard,
)
from gmail_kedro.interfaces import ImageRecord

from ..forking import fork
from .painting import paint

KEYS = ["cap_0/0", "1000.jpg#1/0", "__x__/1"]
RECORDS = [
    ImageRecord(key, encode_jpeg(paint(key, seed), 90), {"prompt": f"a 🐈 {key}\r\n", "seed": 2**63 - 1 - seed})
    for seed, key in enumerate(KEYS)
]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "00000.tar")


def write(path: Path, records: list[ImageRecord] = RECORDS, fingerprint: str = "f") -> Path:
    assert write_shard(path, fingerprint, records)
    return path


def test_what_is_written_is_read(shard: Path) -> None:
    assert list(read_shard(shard)) == RECORDS
    assert probe_shard(shard).fingerprint == "f"
    assert [facts["sha256"] for facts in read_facts(shard)] == [jpeg_sha256(record.jpeg) for record in RECORDS]
    assert [facts["key"] for facts in read_facts(shard)] == KEYS
    content = shard.read_bytes()
    assert {key: content[start : start + size] for key, (start, size) in index_shard(shard).items()} == {
        record.key: record.jpeg for record in RECORDS
    }


def test_equal_records_give_equal_bytes_and_equal_bytes_are_not_written_again(shard: Path, tmp_path: Path) -> None:
    assert write(tmp_path / "other.tar").read_bytes() == shard.read_bytes()
    before = shard.stat().st_mtime_ns
    assert not write_shard(shard, "f", RECORDS)
    assert shard.stat().st_mtime_ns == before
    assert write_shard(shard, "g", RECORDS) and write_shard(shard, "g", RECORDS[:2])


def test_an_image_is_read_where_it_lies_and_no_other_is_taken_for_it(shard: Path) -> None:
    places = index_shard(shard)
    assert [read_image(shard, key, places[key][0]) for key in KEYS] == RECORDS
    with pytest.raises(ShardError, match="expected the image 'cap_0/0' there"):
        read_image(shard, KEYS[0], places[KEYS[1]][0])


def test_webdataset_and_tar_read_it(shard: Path) -> None:
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == ["cap_0_0", "1000%2Ejpg%231_0", "__x___1"]
    assert [sample["json"]["key"] for sample in samples] == KEYS
    assert [sample["json"]["prompt"] for sample in samples] == [record.facts["prompt"] for record in RECORDS]
    assert all(sample["jpg"].shape == (32, 32, 3) for sample in samples)
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
    assert len(members) == 7
    assert {(member.mtime, member.uid, member.uname, member.isreg()) for member in members} == {(0, 0, "", True)}


@pytest.mark.parametrize("room", [0, 300, 2000, 5000])
@pytest.mark.reliability(5)
def test_a_shard_that_cannot_be_written_leaves_the_one_before(room: int, shard: Path, monkeypatch) -> None:
    left = room

    def write_what_fits(file: BinaryIO, content: bytes) -> None:
        nonlocal left
        file.write(content[: max(left, 0)])
        left -= len(content)
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = shard.read_bytes()
    monkeypatch.setattr(shards, "_write", write_what_fits)
    with pytest.raises(OSError, match="No space left"):
        write_shard(shard, "g", RECORDS)
    assert shard.read_bytes() == before
    assert [path.name for path in shard.parent.iterdir()] == ["00000.tar"]


def test_a_quarantine_is_a_shard_and_the_shard_says_how_many_lie_there(tmp_path: Path) -> None:
    path, quarantine = tmp_path / "x.tar", tmp_path / "quarantine" / "x.tar"
    refused = replace(RECORDS[1], facts={**RECORDS[1].facts, "reason": "black", "detail": "d"})
    write_shard(quarantine, "f", [refused])
    write_shard(path, "f", [RECORDS[0], RECORDS[2]], quarantined_count=1)
    assert list(read_shard(path)) == [RECORDS[0], RECORDS[2]]
    assert list(read_shard(quarantine)) == [refused]
    assert [probe_shard(at).quarantined_count for at in (path, quarantine)] == [1, 0]


def test_a_shard_may_lose_every_record(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", "f", [], quarantined_count=3)
    assert list(read_shard(tmp_path / "x.tar")) == []
    assert probe_shard(tmp_path / "x.tar").quarantined_count == 3


def test_refuses_records_that_no_reader_would_take(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not use the names"):
        write_shard(tmp_path / "x.tar", "f", [ImageRecord(KEYS[0], b"x", {"sha256": ""})])
    with pytest.raises(ValueError, match="keys of shard .* repeat"):
        write_shard(tmp_path / "x.tar", "f", [RECORDS[0], RECORDS[0]])
    with pytest.raises(ValueError, match="must be caption_id/sample_index"):
        write_shard(tmp_path / "x.tar", "f", [ImageRecord("nothing", b"x", {})])
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.reliability(4)
def test_two_writers_of_one_shard_spoil_nothing(tmp_path: Path) -> None:
    """Test 4 of the fault tests: a lost machine may go on writing a shard that another has begun anew."""
    path, release = tmp_path / "x.tar", tmp_path / "release"

    def write_slowly() -> None:
        plain = shards._write

        def wait_in_the_middle(file: BinaryIO, content: bytes) -> None:
            plain(file, content)
            while not release.exists():
                time.sleep(0.01)

        shards._write = wait_in_the_middle
        write_shard(path, "f", RECORDS)

    child = fork(write_slowly)
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    write(path)
    assert list(read_shard(path)) == RECORDS
    release.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(read_shard(path)) == RECORDS
    assert sorted(at.name for at in tmp_path.iterdir()) == ["release", "x.tar"]
