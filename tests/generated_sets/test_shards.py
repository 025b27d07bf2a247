import os
import tarfile
from pathlib import Path

import pytest
import webdataset

from gmail_kedro.generated_sets import tar_layout
from gmail_kedro.generated_sets.pictures import encode_jpeg
from gmail_kedro.generated_sets.shards import (
    ShardWriter,
    index_shard,
    jpeg_sha256,
    probe_shard,
    read_facts,
    read_fingerprint,
    read_shard,
)
from gmail_kedro.interfaces import ImageRecord

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
    with ShardWriter(path, [record.key for record in records], fingerprint) as writer:
        writer.append(records)
        writer.finish()
    return path


def test_what_is_written_is_read(shard: Path) -> None:
    assert list(read_shard(shard)) == RECORDS
    assert read_fingerprint(shard) == "f"
    assert [facts["sha256"] for facts in read_facts(shard)] == [jpeg_sha256(record.jpeg) for record in RECORDS]
    assert [facts["key"] for facts in read_facts(shard)] == KEYS
    content = shard.read_bytes()
    assert {key: content[start : start + size] for key, (start, size) in index_shard(shard).items()} == {
        record.key: record.jpeg for record in RECORDS
    }


def test_equal_records_give_equal_bytes_however_they_are_appended(shard: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "other.tar", KEYS, "f") as writer:
        for record in RECORDS:
            writer.append([record])
        writer.finish()
    assert (tmp_path / "other.tar").read_bytes() == shard.read_bytes()


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


@pytest.mark.parametrize("cut", ["header", "record", "between", "end"])
def test_resumes_after_the_complete_leading_records(cut: str, shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    with shard.open("rb") as file:
        start = tar_layout.read_header(file, shard)[1]
        ends = [entry.facts.end for entry in tar_layout.read_entries(file, shard, start)]
    length, kept = {
        "header": (300, 0),
        "record": (ends[1] - 10, 1),
        "between": (ends[1], 2),
        "end": (len(content) - 1, 3),
    }[cut]
    path = tmp_path / "resumed.tar"
    Path(f"{path}.unfinished").write_bytes(content[:length])
    with ShardWriter(path, KEYS, "f") as writer:
        assert writer.written_count == kept
        writer.append(RECORDS[kept:])
        writer.finish()
    assert path.read_bytes() == content
    assert not Path(f"{path}.unfinished").exists()


def test_a_damaged_record_and_all_after_it_are_made_again(shard: Path, tmp_path: Path) -> None:
    content = bytearray(shard.read_bytes())
    offset, size = index_shard(shard)[KEYS[1]]
    content[offset : offset + size] = bytes(size)  # what a power cut leaves of unsynced pages
    (tmp_path / "x.tar.unfinished").write_bytes(content)
    with ShardWriter(tmp_path / "x.tar", KEYS, "f") as writer:
        assert writer.written_count == 1


@pytest.mark.parametrize(("keys", "fingerprint"), [(KEYS, "other"), (["new/0", *KEYS], "f")])
def test_starts_anew_over_other_work(keys: list[str], fingerprint: str, shard: Path) -> None:
    unfinished = shard.rename(f"{shard}.unfinished")
    with ShardWriter(shard, keys, fingerprint) as writer:
        assert writer.written_count == 0
    assert unfinished.stat().st_size == 1024


def test_refused_records_go_into_a_tar_of_their_own(shard: Path, tmp_path: Path) -> None:
    path = tmp_path / "set" / "x.tar"
    path.parent.mkdir()
    with ShardWriter(path, KEYS, "f") as writer:
        writer.append(RECORDS)
        assert list(writer.read()) == RECORDS
        writer.finish({KEYS[1]: {"reason": "black", "detail": "d"}})
    assert list(read_shard(path)) == [RECORDS[0], RECORDS[2]]
    (refused,) = read_shard(path.parent / "quarantine" / "x.tar")
    assert (refused.key, refused.jpeg) == (KEYS[1], RECORDS[1].jpeg)
    assert refused.facts == {**RECORDS[1].facts, "reason": "black", "detail": "d"}
    assert [probe_shard(at).quarantined_count for at in (path, path.parent / "quarantine" / "x.tar", shard)] == [
        1,
        0,
        0,
    ]
    assert sorted(file.name for file in path.parent.iterdir()) == ["quarantine", "x.tar"]


def test_a_shard_may_lose_every_record(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x.tar", KEYS, "f") as writer:
        writer.append(RECORDS)
        writer.finish({key: {"reason": "black", "detail": "d"} for key in KEYS})
    assert list(read_shard(tmp_path / "x.tar")) == []
    assert probe_shard(tmp_path / "x.tar").quarantined_count == 3


def test_rewind_drops_records(shard: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x.tar", KEYS, "f") as writer:
        writer.append(RECORDS[:2])
        writer.rewind(1)
        with pytest.raises(ValueError, match="has 1 records; it cannot be cut to 2"):
            writer.rewind(2)
        writer.append(RECORDS[1:])
        writer.finish()
    assert (tmp_path / "x.tar").read_bytes() == shard.read_bytes()


def test_refuses_records_out_of_place(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x.tar", KEYS, "f") as writer:
        with pytest.raises(ValueError, match="expects the records .*cap_0/0.* Got .*1000"):
            writer.append([RECORDS[1]])
        with pytest.raises(ValueError, match="has 0 of 3 records; append 'cap_0/0'"):
            writer.finish()
        with pytest.raises(ValueError, match="must not use the names"):
            writer.append([ImageRecord(KEYS[0], b"x", {"sha256": ""})])
    with pytest.raises(ValueError, match="keys of shard .* repeat"):
        ShardWriter(tmp_path / "y.tar", ["a/0", "a/0"], "f")
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.reliability(4)
def test_two_writers_of_one_shard_do_not_meet(tmp_path: Path) -> None:
    """Test 4 of the fault tests."""
    path = tmp_path / "x.tar"
    with ShardWriter(path, KEYS, "f") as first:
        first.append(RECORDS)
        with pytest.raises(RuntimeError, match="is being written by another process"):
            ShardWriter(path, KEYS, "f")
        first.finish()
    assert list(read_shard(path)) == RECORDS


def test_a_writer_that_opened_the_file_just_before_it_was_finished_leaves_it_alone(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.tar"
    first = ShardWriter(path, KEYS, "f")
    first.append(RECORDS)
    plain_open = os.open

    def open_then_lose_the_race(*args: object) -> int:
        descriptor = plain_open(*args)
        monkeypatch.undo()
        first.finish()
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose_the_race)
    with pytest.raises(RuntimeError, match="is being written by another process"):
        ShardWriter(path, KEYS, "g")
    assert list(read_shard(path)) == RECORDS
