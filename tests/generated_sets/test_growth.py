"""A set that grows generates its new rows only; every other image stays where it is or is taken from where it lies."""

from pathlib import Path

import pandas as pd
import pytest

from gmail_kedro.generated_sets.make_shard import ShardMaker
from gmail_kedro.generated_sets.shard_format import index_shard, read_shard
from gmail_kedro.generated_sets.stored_images import ShardImages, read_description

from .painting import Painter, Spoiler, folder_bytes, generate, make_captions, make_work, spoil_captions


def extend(folder: Path, work: ShardMaker, log: Path, painter: type[Painter] = Painter) -> list[int]:
    """Generates into a folder; returns the seeds of the images that the generator made."""
    log.write_text("")
    work.build_generator = lambda: painter(log)
    generate(work, folder)
    return [int(seed) for seed in log.read_text().split()]


def seeds_of(work: ShardMaker) -> set[int]:
    return set(work.plan["seed"].tolist())


GROWTHS = {
    "more captions": {"captions_per_image": 2},
    "more samples": {"samples_per_caption": 3},
    "more photographs": {"image_count": 5},
    "larger shards": {"shard_size": 5},
    "fewer photographs": {"image_count": 2},
    "everything": {"captions_per_image": 2, "samples_per_caption": 2, "image_count": 5},
}
SMALL = {"captions_per_image": 1, "samples_per_caption": 1, "image_count": 4, "shard_size": 2}


@pytest.mark.parametrize("growth", GROWTHS)
def test_only_new_rows_are_generated(growth: str, tmp_path: Path) -> None:
    small, large = make_work(**SMALL), make_work(**SMALL | GROWTHS[growth])
    generate(small, tmp_path / "set")
    made = extend(tmp_path / "set", large, tmp_path / "log")
    assert sorted(made) == sorted(seeds_of(large) - seeds_of(small))
    generate(make_work(**SMALL | GROWTHS[growth]), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_a_set_that_shrinks_generates_nothing(tmp_path: Path) -> None:
    generate(make_work(**SMALL | GROWTHS["everything"]), tmp_path / "set")
    assert extend(tmp_path / "set", make_work(**SMALL), tmp_path / "log") == []
    generate(make_work(**SMALL), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_smaller_shards_are_the_same_set_and_take_what_is_still_there(tmp_path: Path) -> None:
    captions = make_captions(10, captions_per_image=1)
    generate(make_work(captions, shard_size=5), tmp_path / "set")
    work = make_work(captions, shard_size=4)
    made = extend(tmp_path / "set", work, tmp_path / "log")
    assert 0 < len(made) < len(work.plan) and set(made) <= seeds_of(work)
    generate(make_work(captions, shard_size=4), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_shards_that_stay_as_they_are_are_not_touched(tmp_path: Path) -> None:
    generate(make_work(image_count=4), tmp_path / "set")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*.tar")}
    extend(tmp_path / "set", make_work(image_count=5), tmp_path / "log")
    assert {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in before} == before


def test_a_changed_caption_is_generated_anew(tmp_path: Path) -> None:
    captions = make_captions()
    generate(make_work(captions), tmp_path / "set")
    captions.loc[3, "caption"] = "something else"
    work = make_work(captions)
    changed = work.plan.loc[work.plan["caption_id"] == "cap_1_1", "seed"]
    assert extend(tmp_path / "set", work, tmp_path / "log") == changed.tolist()


@pytest.mark.parametrize("changes", [{"jpeg_quality": 50}, {"seed": 8}])
def test_nothing_is_taken_from_other_settings_or_seeds(changes: dict[str, int], tmp_path: Path) -> None:
    generate(make_work(**changes), tmp_path / "set")
    work = make_work(shard_size=3)
    assert set(extend(tmp_path / "set", work, tmp_path / "log")) == seeds_of(work)
    generate(make_work(shard_size=3), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_an_extension_that_is_interrupted_takes_the_rest_later(tmp_path: Path) -> None:
    small, large = make_work(**SMALL), make_work(**SMALL | GROWTHS["everything"])
    generate(small, tmp_path / "set")
    calls: list[int] = []

    def stop_at_the_third_batch() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    large.build_generator = lambda: Painter(before=stop_at_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        generate(large, tmp_path / "set")
    assert read_description(tmp_path / "set") is None
    made = extend(tmp_path / "set", make_work(**SMALL | GROWTHS["everything"]), tmp_path / "log")
    assert not set(made) & seeds_of(small)
    generate(make_work(**SMALL | GROWTHS["everything"]), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_a_damaged_image_is_generated_and_not_taken(tmp_path: Path) -> None:
    work = make_work()
    generate(work, tmp_path / "set")
    path = tmp_path / "set" / "00000.tar"
    offset, size = index_shard(path)["cap_1_0/0"]
    content = bytearray(path.read_bytes())
    content[offset + 200 : offset + size] = bytes(size - 200)
    path.write_bytes(content)
    made = extend(tmp_path / "set", make_work(shard_size=5), tmp_path / "log")
    assert made == work.plan.loc[work.plan["caption_id"] == "cap_1_0", "seed"].tolist()


def test_quarantined_images_are_taken_with_their_verdict(tmp_path: Path) -> None:
    captions = spoil_captions()
    generate(make_work(captions, painter=Spoiler(), image_count=7, shard_size=5), tmp_path / "set")
    new = make_work(captions, shard_size=5)
    made = extend(tmp_path / "set", new, tmp_path / "log", Spoiler)
    assert made == new.plan["seed"][7:].tolist()
    generate(make_work(captions, painter=Spoiler(), shard_size=5), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


def test_the_shards_of_a_grown_set_read_as_before(tmp_path: Path) -> None:
    generate(make_work(**SMALL), tmp_path)
    work = make_work(**SMALL | GROWTHS["more captions"])
    extend(tmp_path, work, tmp_path.with_suffix(".log"))
    description = read_description(tmp_path)
    assert description is not None
    images = ShardImages(tmp_path, description)
    assert list(images.keys()) == work.plan["key"].tolist()
    stored = pd.DataFrame([record.facts for path in sorted(tmp_path.glob("*.tar")) for record in read_shard(path)])
    assert stored["seed"].tolist() == work.plan["seed"].tolist()
