"""A set whose bytes, files or manifest were changed in any way does not pass."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from gmail_kedro.generated_sets.block_tables import write_parquet
from gmail_kedro.generated_sets.set_folder import GeneratedSet
from gmail_kedro.generated_sets.shard_format import read_shard, write_shard
from gmail_kedro.generated_sets.verify import verify_set
from gmail_kedro.whole_files import SUMS

from .complete_sets import make_set

PICKY = {"min_deviation": 126.5}  # refuses painted images that are far from half black, half white


@pytest.fixture
def made(tmp_path: Path) -> GeneratedSet:
    return make_set(tmp_path / "painted")


@pytest.fixture
def judged(tmp_path: Path) -> GeneratedSet:
    made = make_set(tmp_path / "judged", quality=PICKY)
    assert 0 < len(made.made) < len(made.manifest)
    return made


def shard_ids(made: GeneratedSet) -> list[str]:
    return list(made.images.description.shards)


def shard(made: GeneratedSet, number: int) -> Path:
    """Returns the file of a shard, counted in the order of the plan."""
    return made.folder / "shards" / f"{shard_ids(made)[number]}.tar"


def words_of(made: GeneratedSet) -> list[str]:
    return [f"{problem.place}: {problem.what}" for problem in verify_set(made.folder).problems]


def change_manifest(made: GeneratedSet, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    write_parquet(made.folder / "manifest.parquet", change(made.manifest.copy()))


def test_a_whole_set_passes_and_every_image_was_read(made: GeneratedSet):
    result = verify_set(made.folder)
    assert result.problems == ()
    assert (result.image_count, result.shard_count) == (10, len(shard_ids(made)))
    assert result.byte_count == sum(path.stat().st_size for path in (made.folder / "shards").glob("*.tar"))


def test_every_changed_byte_of_a_shard_is_found(made: GeneratedSet):
    path = shard(made, 1)
    whole = path.read_bytes()
    missed = []
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :])
        if not verify_set(made.folder).problems:
            missed.append(position)
    assert missed == []


def test_a_changed_image_is_named_and_the_repair_with_it(made: GeneratedSet):
    row = made.row("cap_1_0/0")
    with shard(made, 0).open("r+b") as file:
        file.seek(row["offset"] + row["size_bytes"] // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))
    (problem,) = verify_set(made.folder).problems
    assert problem.place == "shards/00000.tar"
    assert problem.what.startswith("1 images do not have the bytes") and "'cap_1_0/0'" in problem.what
    assert f"Delete {shard(made, 0)}" in problem.repair and "kedro run --pipeline=generation" in problem.repair


def test_a_missing_shard_is_found(made: GeneratedSet):
    shard(made, 2).unlink()
    assert words_of(made) == ["shards/100000.tar: the shard is missing, and 4 images with it"]
    (problem,) = verify_set(made.folder).problems
    assert problem.repair.startswith("Make it again: kedro run --pipeline=generation")


def test_a_shard_cut_short_is_found(made: GeneratedSet):
    path = shard(made, 1)
    path.write_bytes(path.read_bytes()[:3000])
    assert any("00001.tar: the file is damaged" in words and "truncated" in words for words in words_of(made))


def test_a_shard_of_another_set_is_found(made: GeneratedSet, tmp_path: Path):
    other = make_set(tmp_path / "other", seed=8)
    shard(made, 1).write_bytes(shard(other, 1).read_bytes())
    assert any("belongs to a shard made from something else" in words for words in words_of(made))


def test_a_shard_with_images_too_many_and_too_few_is_found(made: GeneratedSet):
    records = list(read_shard(shard(made, 0)))
    (stranger,) = read_shard(shard(made, 1))
    fingerprint = made.images.description.shards["00000"]
    shard(made, 0).unlink()
    kept = [*records[:3], stranger]
    write_shard(shard(made, 0), fingerprint, kept)
    found = words_of(made)
    assert any("1 images are in the shard and not in the manifest (first: 'cap_4_0/0')" in words for words in found)
    assert any("1 images of the manifest are not in the shard (first: 'cap_3_0/0')" in words for words in found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop(index=5), "it has 9 rows; set.json says 10"),
        (lambda rows: rows[rows["shard_id"] != "00001"], "it lacks the rows of 1 shards (first: 00001)"),
        (lambda rows: rows.assign(sha256="0" * 64), "do not have the bytes that the manifest's hash was taken from"),
        (lambda rows: rows.assign(offset=rows["offset"] + 1), "lie elsewhere than the manifest says"),
        (lambda rows: rows.assign(prompt="another"), "have other facts beside them than the manifest's"),
        (lambda rows: rows.iloc[[*range(2), *range(4, 10), 2, 3]], "its rows of shard 00000 do not lie together"),
        (lambda rows: rows.assign(shard_id=rows["shard_id"].replace("100001", "00007")), "belong to no shard"),
        (lambda rows: rows.iloc[[1, 0, *range(2, 10)]], "2 images have another order than the manifest's rows"),
    ],
)
def test_a_changed_manifest_is_found(made: GeneratedSet, change: Callable, words: str):
    change_manifest(made, change)
    assert any(words in found for found in words_of(made)), words_of(made)


def test_files_that_do_not_belong_are_found(made: GeneratedSet):
    (made.folder / "shards" / "00009.tar").write_bytes(b"")
    assert words_of(made) == ["shards/00009.tar: the file is no part of the set"]


def test_a_set_with_a_quarantine_passes_and_its_quarantine_was_read(judged: GeneratedSet):
    result = verify_set(judged.folder)
    assert result.problems == () and result.image_count == 10


def test_a_missing_quarantine_is_found(judged: GeneratedSet):
    quarantine = next((judged.folder / "shards" / "quarantine").glob("*.tar"))
    quarantine.unlink()
    (problem,) = [found for found in verify_set(judged.folder).problems if found.place.startswith("shards")]
    assert problem.place == f"shards/quarantine/{quarantine.name}" and "is missing" in problem.what


def test_an_image_let_out_of_quarantine_is_found(judged: GeneratedSet):
    change_manifest(judged, lambda rows: rows.assign(status="made", reason=""))
    found = words_of(judged)
    assert any(
        "of the manifest are not in the shard" in words or "made from something else" in words for words in found
    )
    assert any(words.startswith("set.json: it says {'near_constant'") for words in found)


def test_a_retried_image_passes_with_its_other_seed(tmp_path: Path):
    made = make_set(tmp_path / "retried", quality=PICKY | {"retries": 3})
    assert (made.manifest["seed"] != made.plan["seed"]).any()
    assert verify_set(made.folder).problems == ()


def test_a_plan_of_something_else_is_found(made: GeneratedSet):
    write_parquet(made.folder / "plan.parquet", made.plan.assign(seed=made.plan["seed"] + 1))
    assert words_of(made) == [
        f"plan.parquet: its rows of shard {name} are not the ones the set was made from" for name in shard_ids(made)
    ]


@pytest.mark.parametrize("name", ["shards/set.json", "manifest.parquet", "plan.parquet"])
def test_an_unfinished_set_is_one_problem(made: GeneratedSet, name: str):
    (made.folder / name).unlink()
    (problem,) = verify_set(made.folder).problems
    assert problem.place == Path(name).name and "kedro run --pipeline=generation" in problem.repair


@pytest.mark.parametrize("name", ["captions.parquet", "plan.parquet", "manifest.parquet"])
def test_a_table_of_an_earlier_version_is_told_and_its_rows_are_checked(made: GeneratedSet, name: str):
    pd.read_parquet(made.folder / name).to_parquet(made.folder / name)
    sums = made.folder / SUMS
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if name not in line))
    assert words_of(made) == [f"{name}: SHA256SUMS has no line of it (an earlier version or another program wrote it)"]


def test_a_damaged_description_is_one_problem(made: GeneratedSet):
    (made.folder / "shards" / "set.json").write_text("{")
    (problem,) = verify_set(made.folder).problems
    assert "does not describe a generated set" in problem.what
