"""Test 10 of the fault tests: files that pretend to be shards are refused by name, and nothing is written anywhere."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from gmail_kedro.generated_sets.shard_format import (
    MAX_MEMBER_BYTES,
    ShardError,
    encode_header,
    encode_member,
    index_shard,
    probe_shard,
    read_facts,
    read_shard,
    write_shard,
)
from gmail_kedro.interfaces import ImageRecord

pytestmark = pytest.mark.reliability(10)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], good_header: bool = True) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        if good_header:
            members = ((tarfile.TarInfo("__shard__"), b'{"fingerprint": "f"}'), *members)
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def plain(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(name: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info, b""


ATTACKS = {
    "absolute": ([plain("/etc/cron.d/a_0.jpg")], "member '/etc/cron.d/a_0.jpg': its name has a path"),
    "parent": ([plain("../a_0.jpg")], r"member '\.\./a_0.jpg': its name has a path"),
    "windows": ([plain("..\\a_0.jpg")], "its name has a path"),
    "symlink": ([special("a_0.jpg", tarfile.SYMTYPE)], "member 'a_0.jpg': it is a link, device"),
    "hardlink": ([special("a_0.jpg", tarfile.LNKTYPE)], "it is a link, device"),
    "device": ([special("a_0.jpg", tarfile.CHRTYPE)], "it is a link, device"),
    "fifo": ([special("a_0.jpg", tarfile.FIFOTYPE)], "it is a link, device"),
    "folder": ([special("a_0.jpg", tarfile.DIRTYPE)], "it is a link, device"),
    "long name": ([special("././@LongLink", tarfile.GNUTYPE_LONGNAME)], "extension"),
    "pax": ([special("pax", tarfile.XHDTYPE)], "extension"),
    "duplicate": ([plain("a_0.jpg"), plain("a_0.jpg")], "member 'a_0.jpg': it occurs twice"),
    "stranger": ([plain("run.sh")], "member 'run.sh': 'run' is not the name of a generated image"),
    "extension": ([plain("a_0.png")], "member 'a_0.png': expected 'a_0.jpg'"),
    "no facts": ([plain("a_0.jpg"), plain("b_0.jpg")], "expected 'a_0.json' after it, found 'b_0.jpg'"),
    "no json": ([plain("a_0.jpg"), plain("a_0.json", b"{")], "member 'a_0.json': it is no JSON"),
    "deep json": ([plain("a_0.jpg"), plain("a_0.json", b"[" * 100_000)], "it is no JSON"),
    "list": ([plain("a_0.jpg"), plain("a_0.json", b"[]")], "expected a JSON object, found a list"),
    "wrong key": ([plain("a_0.jpg"), plain("a_0.json", b'{"key": "b/0"}')], "expected key 'a/0' and a sha256"),
    "wrong hash": (
        [plain("a_0.jpg"), plain("a_0.json", b'{"key": "a/0", "sha256": "00"}')],
        "member 'a_0.jpg': its bytes do not match",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses_a_hostile_shard(name: str, tmp_path: Path) -> None:
    members, message = ATTACKS[name]
    path = tar_of(tmp_path / "bad.tar", *members)
    with pytest.raises(ShardError, match=message) as caught:
        list(read_shard(path))
    assert str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.tar"]


def test_refuses_a_member_that_claims_too_much(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("a_0.jpg")
    huge.size = MAX_MEMBER_BYTES + 1
    header = encode_header("f")
    (tmp_path / "x.tar").write_bytes(header + huge.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(ShardError, match="member 'a_0.jpg': it claims 67108865 bytes"):
        list(read_shard(tmp_path / "x.tar"))
    huge.size = 1000
    (tmp_path / "x.tar").write_bytes(header + huge.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(ShardError, match="member 'a_0.jpg': the file is truncated"):
        list(read_shard(tmp_path / "x.tar"))
    with pytest.raises(ValueError, match="takes 67108865 bytes"):
        encode_member("a_0.jpg", bytes(MAX_MEMBER_BYTES + 1))


def test_a_bomb_of_members_is_refused_at_the_first(tmp_path: Path) -> None:
    member = tarfile.TarInfo("bomb").tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "x.tar").write_bytes(encode_header("f") + member * 100_000)
    with pytest.raises(ShardError, match="member 'bomb'"):
        index_shard(tmp_path / "x.tar")


@pytest.mark.parametrize("content", [b"", b"not a tar" * 100, b"\x1f\x8b\x08" + bytes(600), bytes(1024)])
def test_refuses_what_is_no_shard(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    for read in (probe_shard, index_shard, lambda path: list(read_shard(path)), lambda path: list(read_facts(path))):
        with pytest.raises(ShardError, match=r"Shard .*x\.tar"):
            read(tmp_path / "x.tar")


def test_refuses_a_shard_without_its_header(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected '__shard__', found 'a_0.jpg'"):
        probe_shard(tar_of(tmp_path / "x.tar", plain("a_0.jpg"), good_header=False))
    with pytest.raises(ShardError, match="expected a fingerprint, found 1"):
        probe_shard(
            tar_of(tmp_path / "x.tar", plain("__shard__", json.dumps({"fingerprint": 1}).encode()), good_header=False)
        )


def test_a_quick_look_finds_truncation_and_nonsense_in_the_header(tmp_path: Path) -> None:
    shard = tmp_path / "x.tar"
    write_shard(shard, "f", [ImageRecord("a/0", b"x" * 2000, {"seed": 1})])
    assert probe_shard(shard).fingerprint == "f"
    content = shard.read_bytes()
    for length in range(0, len(content), 256):
        shard.write_bytes(content[:length])
        with pytest.raises(ShardError):
            probe_shard(shard)
    header = json.dumps({"fingerprint": "f", "quarantined": -1}).encode()
    with pytest.raises(ShardError, match="expected a count of quarantined images, found -1"):
        probe_shard(tar_of(tmp_path / "y.tar", plain("__shard__", header), good_header=False))


def test_refuses_every_truncation_and_anything_after_the_end(tmp_path: Path) -> None:
    shard = tmp_path / "x.tar"
    record = ImageRecord("a/0", b"x" * 2000, {"seed": 1})
    write_shard(shard, "f", [record])
    content = shard.read_bytes()
    for length in range(0, len(content), 256):
        shard.write_bytes(content[:length])
        with pytest.raises(ShardError):
            list(read_shard(shard))
    shard.write_bytes(content + b"x")
    with pytest.raises(ShardError, match="expected the end of the file"):
        index_shard(shard)
