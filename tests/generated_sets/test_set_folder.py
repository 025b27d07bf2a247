from pathlib import Path

import pytest

from gmail_kedro.generated_sets import set_folder
from gmail_kedro.generated_sets.set_folder import open_set, rows_by_shard

from .complete_sets import make_set


def test_a_complete_set_opens_with_its_manifest_and_images(tmp_path: Path):
    make_set(tmp_path / "painted")
    opened = open_set(tmp_path / "painted")
    assert opened.name == "painted"
    assert len(opened.manifest) == len(opened.made) == len(list(opened.images.keys())) == 10
    row = opened.row("cap_3_1/0")
    assert row["prompt"] == "photograph 3, caption 1" and row["image_id"] == "img_3.jpg"


def test_an_unknown_key_is_refused_with_an_example(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no image 'x/0'; it has 10, such as 'cap_0_0/0'"):
        make_set(tmp_path / "painted").row("x/0")


@pytest.mark.parametrize("name", ["shards/set.json", "manifest.parquet", "plan.parquet"])
def test_an_unfinished_set_says_what_is_not_there_and_how_to_complete_it(tmp_path: Path, name: str):
    folder = make_set(tmp_path / "painted").folder
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is not there.*kedro run --pipeline=generation.*dvc pull"):
        open_set(folder)


@pytest.mark.parametrize("rows_a_read", [1, 3, 4, 5, 100])
def test_rows_come_shard_by_shard_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_read: int
):
    made = make_set(tmp_path / "painted")
    monkeypatch.setattr(set_folder, "ROWS_A_READ", rows_a_read)
    parts = list(rows_by_shard(made.folder / "manifest.parquet"))
    assert [name for name, _ in parts] == list(made.images.description.shards)
    assert [len(rows) for _, rows in parts] == [4, 1, 4, 1]
    assert [key for _, rows in parts for key in rows["key"]] == made.manifest["key"].tolist()
