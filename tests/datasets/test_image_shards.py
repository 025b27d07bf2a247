import json
from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError

from gmail_kedro.datasets.image_shards import ImageShardsDataset

from ..generated_sets.painting import Painter, generate, make_work, read_stamp, stamp


def test_loading_reads_by_key(tmp_path: Path) -> None:
    dataset = ImageShardsDataset(str(tmp_path / "set"))
    assert not dataset.exists()
    work = make_work()
    generate(work, tmp_path / "set")
    assert dataset.exists()
    images = dataset.load()
    assert list(images.keys()) == work.plan["key"].tolist()
    assert [read_stamp(images.read(row.key)) == stamp(row.prompt, row.seed) for row in work.plan.itertuples()] == [
        True
    ] * 10


def test_the_catalog_builds_it_from_yaml(tmp_path: Path) -> None:
    entry = {"type": "gmail_kedro.datasets.image_shards.ImageShardsDataset", "filepath": str(tmp_path / "set")}
    catalog = DataCatalog.from_config({"generated_images": entry})
    generate(make_work(), tmp_path / "set")
    assert catalog.exists("generated_images")
    assert len(catalog.load("generated_images")) == 10


def interrupted(tmp_path: Path) -> ImageShardsDataset:
    def fail_in_the_third_shard() -> None:
        if log.exists() and len(log.read_text().split()) == 4:
            raise RuntimeError("CUDA out of memory")

    log = tmp_path / "log"
    dataset = ImageShardsDataset(str(tmp_path / "set"))
    with pytest.raises(RuntimeError, match=r"captions \['cap_0_1', 'cap_1_1'\] of shard 100000"):
        generate(make_work(painter=Painter(log, fail_in_the_third_shard)), tmp_path / "set")
    return dataset


def test_an_interrupted_set_does_not_exist_and_says_how_to_resume(tmp_path: Path) -> None:
    dataset = interrupted(tmp_path)
    assert not dataset.exists()
    with pytest.raises(
        DatasetError,
        match=r"2 of 4 shards missing or cut short \(first: 100000.tar\). Resume with: kedro run --pipeline=generation",
    ):
        dataset.load()
    generate(make_work(), tmp_path / "set")
    assert dataset.exists()


def test_a_set_that_lost_a_shard_is_incomplete_and_repaired_by_generating(tmp_path: Path) -> None:
    dataset = ImageShardsDataset(str(tmp_path))
    generate(make_work(), tmp_path)
    (tmp_path / "100001.tar").unlink()
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"1 of 4 shards missing or cut short \(first: 100001.tar\)"):
        dataset.load()
    generate(make_work(), tmp_path)
    assert len(list(dataset.load().keys())) == 10


def test_a_set_that_was_not_closed_is_not_loaded(tmp_path: Path) -> None:
    dataset = ImageShardsDataset(str(tmp_path))
    generate(make_work(), tmp_path)
    (tmp_path / "set.json").rename(tmp_path / "set.unfinished.json")
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="has all 4 shards but was not closed"):
        dataset.load()


def test_nothing_there_and_nonsense_there_are_errors(tmp_path: Path) -> None:
    dataset = ImageShardsDataset(str(tmp_path))
    with pytest.raises(DatasetError, match="There is no generated set in .*kedro run --pipeline=generation"):
        dataset.load()
    (tmp_path / "set.json").write_text(json.dumps({"fingerprint": 1}))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="does not describe a generated set"):
        dataset.load()
    generate(make_work(), tmp_path)
    assert dataset.exists()


def test_saving_writes_nothing_and_takes_its_own_images_only(tmp_path: Path) -> None:
    generate(make_work(), tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    images = ImageShardsDataset(str(tmp_path / "set")).load()
    ImageShardsDataset(str(tmp_path / "set")).save(images)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before
    with pytest.raises(DatasetError, match=r"The images lie in .*set; this entry opens those in .*other"):
        ImageShardsDataset(str(tmp_path / "other")).save(images)
