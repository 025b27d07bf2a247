import json
import pickle
import shutil
from pathlib import Path

import pytest

from gmail_kedro.generated_sets.shard_format import read_shard
from gmail_kedro.generated_sets.stored_images import ShardImages, describe_set, missing_shards, read_description

from .painting import SETTINGS, generate, make_work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate(make_work(), tmp_path / "set")
    return tmp_path / "set"


def open_set(folder: Path) -> ShardImages:
    description = read_description(folder)
    assert description is not None
    return ShardImages(folder, description)


def test_reads_any_image_by_key(folder: Path) -> None:
    images = open_set(folder)
    records = {record.key: record for path in sorted(folder.glob("*.tar")) for record in read_shard(path)}
    assert len(images) == 10
    for key in reversed(list(images.keys())):
        assert images.read(key) == records[key].jpeg
    assert images.shard_of("cap_4_1/0") == "100001"
    assert images.fingerprint == make_work().description.fingerprint


def test_survives_pickling_before_and_after_its_first_look_up(folder: Path) -> None:
    images = open_set(folder)
    before = pickle.loads(pickle.dumps(images))
    assert images.read("cap_0_0/0") == before.read("cap_0_0/0") == pickle.loads(pickle.dumps(images)).read("cap_0_0/0")


def test_an_unknown_key_is_an_error_that_names_key_and_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="set has no image 'x/0'; it has 10, such as 'cap_0_0/0'"):
        open_set(folder).read("x/0")


def test_a_shard_that_is_gone_is_named_with_what_makes_it_again(folder: Path) -> None:
    gone = sorted(folder.glob("*.tar"))[0]
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=rf"The shard \S*{gone.name} is gone. Make it again .*: \w+"):
        open_set(folder).read("cap_0_0/0")


def test_a_shard_cut_after_indexing_is_an_error(folder: Path) -> None:
    images = open_set(folder)
    list(images.keys())
    (folder / "100001.tar").write_bytes((folder / "100001.tar").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"100001.tar, .*: the file is truncated"):
        images.read("cap_4_1/0")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)


def test_one_changed_byte_of_an_image_is_refused_when_it_is_read(folder: Path) -> None:
    images = open_set(folder)
    for key in list(images.keys()):
        place = images.locate(key)
        flip(folder / f"{place.shard_id}.tar", place.offset + place.size // 2)
        with pytest.raises(ValueError, match=r"its bytes do not match the hash beside it. Delete the file and make it"):
            images.read(key)


def test_every_changed_byte_of_the_description_is_refused(folder: Path) -> None:
    path, missed = folder / "set.json", []
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        flip(path, position)
        try:
            if read_description(folder) is not None:
                missed.append(whole[position : position + 1])
        except ValueError as error:
            assert "kedro run --pipeline=generation" in str(error)
        path.write_bytes(whole)
    assert b"".join(missed).strip() == b""  # white space between the values says nothing


def test_a_wrong_hash_in_the_description_is_repaired_as_advised(folder: Path) -> None:
    whole = (folder / "set.json").read_bytes()
    for has_checksum in (True, False):
        text = json.loads(whole)
        text["shards"]["00001"] = "0" * 64
        if not has_checksum:
            del text["sha256"]  # as an earlier version wrote it
        (folder / "set.json").write_text(json.dumps(text))
        tars = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
        generate(make_work(), folder)
        assert (folder / "set.json").read_bytes() == whole
        assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")} == tars


def test_shards_that_hold_something_else_than_announced_are_refused(folder: Path) -> None:
    text = json.loads((folder / "set.json").read_text()) | {"image_count": 11}
    del text["sha256"]  # as an earlier version wrote it
    (folder / "set.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="hold 10 images; set.json says 11"):
        open_set(folder).read("cap_0_0/0")


def test_missing_shards_are_the_absent_the_unreadable_and_the_foreign(folder: Path, tmp_path: Path) -> None:
    description = describe_set(make_work().plan, SETTINGS)
    assert missing_shards(folder, description) == []
    (folder / "00000.tar").unlink()
    (folder / "00001.tar").write_bytes(b"damaged")
    generate(make_work(jpeg_quality=50), tmp_path / "foreign")
    shutil.copy(tmp_path / "foreign" / "100001.tar", folder)
    assert missing_shards(folder, description) == ["00000", "00001", "100001"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "does not describe"),
        ("{}", "missing 5 required"),
        ('{"shards": {"../../x": "f"}}', "must be five or more digits"),
        ('{"shards": []}', "must be objects"),
    ],
)
def test_a_damaged_description_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    blank = {"fingerprint": "", "settings": {}, "image_count": 0, "truncated_prompt_count": 0}
    (tmp_path / "set.json").write_text(json.dumps(blank | json.loads(text)) if "shards" in text else text)
    with pytest.raises(ValueError, match=rf"set.json does not describe a generated set .*{reason}|{reason}"):
        read_description(tmp_path)
