import errno
import os
import resource
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pytest

from gmail_kedro.generated_sets import shard_format as shards
from gmail_kedro.generated_sets.generate import generate_images
from gmail_kedro.generated_sets.make_shard import ShardMaker
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.generated_sets.shard_format import read_shard
from gmail_kedro.generated_sets.stored_images import ShardImages, open_images, read_description

from ..forking import fork
from .painting import (
    SETTINGS,
    Painter,
    Spoiler,
    folder_bytes,
    generate,
    generation_params,
    make_captions,
    make_work,
    quality_params,
    read_stamp,
    spoil_captions,
    stamp,
)


def load(folder: Path) -> ShardImages:
    description = read_description(folder)
    assert description is not None
    return ShardImages(folder, description)


@pytest.mark.reliability(3)
def test_every_image_shows_its_own_caption(tmp_path: Path) -> None:
    """Test 3 of the fault tests: several samples of a caption, each under its own key."""
    work = make_work(samples_per_caption=3, batch_size=4)
    report = generate(work, tmp_path)
    images = load(tmp_path)
    for row in work.plan.itertuples():
        assert read_stamp(images.read(row.key)) == stamp(row.prompt, row.seed)
    assert list(images.keys()) == work.plan["key"].tolist()
    assert (report.image_count, report.shard_count, report.kept_count, report.made_count) == (30, 12, 0, 30)


@pytest.mark.reliability(8)
def test_odd_captions_arrive_unchanged(tmp_path: Path) -> None:
    """Test 8 of the fault tests; the captions that are refused are in ``test_plan.py``."""
    texts = ["\ufeffa cat\r\n", "猫 🐈\t", "long " * 50_000]
    captions = pd.DataFrame(
        {"caption_id": ["a.jpg#0", "b/1", "../c"], "image_id": list("xyz"), "caption": texts, "split": "train"}
    )
    report = generate(make_work(captions), tmp_path)
    assert [record.facts["prompt"] for record in read_shard(tmp_path / "00000.tar")] == texts
    assert report.truncated_prompt_count == 1


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8])
@pytest.mark.reliability(2)
def test_bytes_do_not_depend_on_the_batch_size(batch_size: int, tmp_path: Path) -> None:
    generate(make_work(batch_size=2), tmp_path / "two")
    generate(make_work(batch_size=batch_size), tmp_path / "other")
    assert folder_bytes(tmp_path / "two") == folder_bytes(tmp_path / "other")


def test_a_complete_set_is_kept_without_building_the_generator(tmp_path: Path) -> None:
    first = generate(make_work(), tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    work = make_work()
    work.build_generator = lambda: pytest.fail("the generator was built")
    again = generate(work, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert (again.kept_count, again.truncated_prompt_count) == (4, first.truncated_prompt_count)


def test_a_grown_plan_keeps_full_shards_and_a_shrunk_one_removes_the_rest(tmp_path: Path) -> None:
    generate(make_work(image_count=4), tmp_path)
    log = tmp_path.with_suffix(".log")
    grown = make_work(image_count=5, samples_per_caption=2, painter=Painter(log))
    assert generate(grown, tmp_path).kept_count == 2
    new = grown.plan[(grown.plan["image_id"] == "img_4.jpg") | (grown.plan["sample_index"] == 1)]
    assert log.read_text().split() == [str(seed) for seed in new["seed"]]
    shrunk = make_work(image_count=4, captions_per_image=1)
    shrunk.build_generator = lambda: pytest.fail("the generator was built")
    assert generate(shrunk, tmp_path).kept_count == 1
    assert sorted(folder_bytes(tmp_path)) == ["00000.tar", "set.json"]
    assert list(load(tmp_path).keys()) == shrunk.plan["key"].tolist()


def test_other_settings_replace_every_shard_and_never_mix(tmp_path: Path) -> None:
    generate(make_work(jpeg_quality=50), tmp_path)
    (tmp_path / "00009.tar.unfinished").write_bytes(b"left over by an earlier version")
    (tmp_path / "00009.tar.elsewhere.1.partial").write_bytes(b"left over by a lost machine")
    (tmp_path / "notes.txt").write_text("mine")

    def stop_in_the_third_batch() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        generate(make_work(painter=Painter(before=stop_in_the_third_batch)), tmp_path)
    assert read_description(tmp_path) is None
    assert generate(make_work(), tmp_path).kept_count == 1
    generate(make_work(), tmp_path.with_suffix(".fresh"))
    assert folder_bytes(tmp_path) == folder_bytes(tmp_path.with_suffix(".fresh")) | {"notes.txt": b"mine"}


def test_images_that_will_be_gone_are_said_before_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    generate(make_work(image_count=4, jpeg_quality=50), tmp_path)
    generate(make_work(image_count=5, jpeg_quality=50), tmp_path)  # grows: all are kept
    assert "name another set" not in caplog.text
    count = len(make_work(image_count=5).plan)
    generate(make_work(image_count=5), tmp_path)
    assert f"other settings (jpeg_quality 50, now 90): its {count} images are replaced. To keep" in caplog.text
    generate(make_work(image_count=5, shard_size=3), tmp_path)
    assert "has other rows in 2 of its 4 shards than are asked for now (another generation.shard_size" in caplog.text
    fewer = make_work(image_count=2)
    generate(fewer, tmp_path)
    assert f"has {count} images, and {len(fewer.plan)} are asked for now: the others are removed" in caplog.text


@pytest.mark.reliability(7)
def test_a_failing_batch_keeps_whole_shards(tmp_path: Path) -> None:

    def fail_in_the_fourth_batch() -> None:
        if len(log.read_text().split()) == 7:
            raise RuntimeError("CUDA out of memory")

    log = tmp_path / "log"
    log.touch()
    with pytest.raises(
        RuntimeError, match=r"captions \['cap_2_1', 'cap_3_1'\] of shard 100000: RuntimeError: CUDA out of"
    ):
        generate(make_work(painter=Painter(log, fail_in_the_fourth_batch)), tmp_path / "set")
    report = generate(make_work(painter=Painter(log), batch_size=1), tmp_path / "set")
    assert (report.kept_count, report.made_count) == (2, 5)
    made = Counter(log.read_text().split())
    assert sorted(made.values()) == [1] * 8 + [2] * 2  # only the batch of the shard that was lost


@pytest.mark.reliability(4)
def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:

    def second_run() -> None:
        with pytest.raises(RuntimeError, match="Another process is generating into"):
            generate(make_work(jpeg_quality=50), tmp_path)

    generate(make_work(painter=Painter(before=second_run)), tmp_path)
    generate(make_work(), tmp_path.with_suffix(".fresh"))
    assert folder_bytes(tmp_path) == folder_bytes(tmp_path.with_suffix(".fresh"))


@pytest.mark.reliability(4)
def test_of_two_processes_one_makes_the_set_and_the_other_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    def work() -> None:
        generate(make_work(painter=Painter(log, lambda: time.sleep(0.05))), tmp_path / "set")

    def exit_code(error: BaseException) -> int:
        return 1 if "Another process is generating into" in str(error) else 2

    children = [fork(work, exit_code) for _ in range(2)]
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == [0, 1]
    generate(make_work(), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")
    assert max(Counter(log.read_text().split()).values()) == 1


@pytest.mark.parametrize("room", [100, 3000, 9000, 13_000, 16_000])
@pytest.mark.reliability(5)
def test_no_space_left_is_an_error_and_the_run_goes_on_when_there_is(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test 5 of the fault tests, with a quarantine to write."""
    left = room

    def write_what_fits(file: BinaryIO, content: bytes) -> None:
        nonlocal left
        plain_write(file, content[: max(left, 0)])
        left -= len(content)
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    captions, shape = spoil_captions({1: "NaN", 3: "black"}, image_count=6), {"shard_size": 6, "batch_size": 2}
    plain_write = shards._write
    monkeypatch.setattr(shards, "_write", write_what_fits)
    with pytest.raises(OSError, match="No space left on device"):
        generate(make_work(captions, painter=Spoiler(), **shape), tmp_path / "set")
    assert not list((tmp_path / "set").glob("*.tar"))
    assert read_description(tmp_path / "set") is None
    monkeypatch.undo()
    generate(make_work(captions, painter=Spoiler(), **shape), tmp_path / "set")
    generate(make_work(captions, painter=Spoiler(), **shape), tmp_path / "fresh")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "fresh")


@pytest.mark.reliability(5)
def test_a_full_disk_leaves_no_half_shard_and_the_run_goes_on_later(tmp_path: Path) -> None:
    folder, log = tmp_path / "set", tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            generate(make_work(painter=Painter(log)), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.glob("*.tar"))
    assert not list(folder.glob("*.partial"))
    generate(make_work(painter=Painter(log)), folder)
    generate(make_work(), tmp_path / "fresh")
    assert folder_bytes(folder) == folder_bytes(tmp_path / "fresh")


@pytest.mark.reliability(5)
def test_a_folder_that_vanishes_is_an_error(tmp_path: Path) -> None:

    def remove() -> None:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)

    with pytest.raises(FileNotFoundError):
        generate(make_work(painter=Painter(before=remove)), tmp_path / "set")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
@pytest.mark.reliability(5)
def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        generate(make_work(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": {"generator": "painter"}},
            r"lacks \['revision', 'steps', 'guidance', 'resolution', 'jpeg_quality'\]",
        ),
        ({"settings": SETTINGS | {"jpeg_quality": 96}}, "jpeg_quality must be 1 to 95. Got 96"),
        ({"batch_size": 0}, "batch_size must be 1 or greater. Got 0"),
        ({"plan": make_work().plan.iloc[:0]}, "plan is empty"),
        ({"plan": make_captions()}, "lacks .*'prompt'"),
    ],
)
def test_refuses_work_that_cannot_be_done(changes: dict[str, object], message: str) -> None:
    good = {
        "plan": make_work().plan,
        "build_generator": Painter,
        "settings": SETTINGS,
        "batch_size": 2,
        "folder": Path(),
    }
    good |= {"quality": quality_params(), "folder": Path()}
    with pytest.raises(ValueError, match=message):
        ShardMaker(**(good | changes))


def test_a_shard_id_that_is_a_path_never_reaches_the_disk(tmp_path: Path) -> None:
    work = make_work()
    hostile = replace(work, plan=work.plan.assign(shard_id="../evil"))
    with pytest.raises(ValueError, match="shard id '../evil' must be five or more digits"):
        generate(hostile, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.reliability(2)
def test_a_set_that_goes_on_makes_the_batches_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Even a generator whose images depend on their batch, as on a GPU in the last bits, gives the same bytes."""

    class Mixing(Painter):
        def denoise(self, prompts, seeds):
            return super().denoise([" ".join(prompts)] * len(prompts), seeds)

    def stop_in_the_fourth_batch() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    calls: list[int] = []
    params = {"captions": make_captions(10, 1), "batch_size": 3, "shard_size": 5}
    generate(make_work(painter=Mixing(), **params), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        generate(make_work(painter=Mixing(before=stop_in_the_fourth_batch), **params), tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").glob("*.tar")] == ["00000.tar"]
    assert read_description(tmp_path / "cut") is None
    generate(make_work(painter=Mixing(), **params), tmp_path / "cut")
    assert folder_bytes(tmp_path / "cut") == folder_bytes(tmp_path / "whole")


def test_a_set_is_generated_from_python_without_a_catalog(tmp_path: Path) -> None:
    """What a user writes: captions, plan, generator, folder, and the images by key."""
    captions = make_captions(image_count=3)
    plan = plan_images(captions, params=generation_params())
    report = generate_images(
        plan, Painter, tmp_path / "shards", settings=SETTINGS, quality=quality_params(), batch_size=4
    )
    images = open_images(tmp_path / "shards")
    assert report.made_count == len(images) == len(plan) == 6
    assert images.read("cap_0_0/0").startswith(b"\xff\xd8")
