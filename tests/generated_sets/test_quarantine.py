"""Test 6 of the fault tests: refused images are counted, kept apart with the reason, never in a shard or a pair."""

import json
from collections import Counter
from pathlib import Path

import pytest
import webdataset

from gmail_kedro.generated_sets.generate import GenerationReport
from gmail_kedro.generated_sets.image_maker import retry_seed
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.pairing import pair_by_caption
from gmail_kedro.generated_sets.quality_gate import QuarantineError
from gmail_kedro.generated_sets.shard_format import probe_shard, read_shard
from gmail_kedro.generated_sets.stored_images import ShardImages, missing_shards, read_description
from gmail_kedro.params.generation import PairingParams

from .painting import (
    REASONS,
    SPOILT,
    Painter,
    Spoiler,
    folder_bytes,
    generate,
    make_work,
    read_stamp,
    spoil_captions,
    stamp,
)

pytestmark = pytest.mark.reliability(6)

SHARD_SIZE = 5


def work_of(words: dict[int, str] = SPOILT, *, painter: Painter | None = None, **changes: object):
    captions = spoil_captions(words)
    return make_work(captions, painter=painter or Spoiler(), shard_size=SHARD_SIZE, batch_size=3, **changes)


def make(folder: Path, words: dict[int, str] = SPOILT, **changes: object) -> GenerationReport:
    return generate(work_of(words, **changes), folder)


def load(folder: Path) -> ShardImages:
    description = read_description(folder)
    assert description is not None
    return ShardImages(folder, description)


def test_every_refused_image_is_kept_apart_with_its_reason(tmp_path: Path) -> None:
    report = make(tmp_path)
    images, work = load(tmp_path), work_of()
    assert report.quarantined == images.description.quarantined == dict.fromkeys(sorted(REASONS.values()), 1)
    assert {key: image.reason for key, image in images.quarantined.items()} == {
        f"cap_{row}_0/0": REASONS[word] for row, word in SPOILT.items()
    }
    good = [key for key in work.plan["key"] if key not in images.quarantined]
    assert list(images.keys()) == good
    assert len(images) == 7
    for row in work.plan[work.plan["key"].isin(good)].itertuples():
        assert read_stamp(images.read(row.key)) == stamp(row.prompt, row.seed)
    # A black image can be looked at; of NaN latents there is none.
    assert images.read_quarantined("cap_3_0/0").startswith(b"\xff\xd8")
    assert images.read_quarantined("cap_1_0/0") == b""


def test_other_tools_see_good_images_only(tmp_path: Path) -> None:
    make(tmp_path)
    shards = sorted(str(path) for path in tmp_path.glob("*.tar"))
    samples = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8")
    assert [sample["json"]["key"] for sample in samples] == list(load(tmp_path).keys())
    assert [probe_shard(tmp_path / f"0000{number}.tar").quarantined_count for number in range(3)] == [3, 2, 0]
    assert sorted(path.name for path in (tmp_path / "quarantine").iterdir()) == ["00000.tar", "00001.tar"]


def test_a_quarantined_image_is_not_read_by_its_key(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'cap_3_0/0' .* is quarantined \(black: its brightest pixel is 0"):
        load(tmp_path).read("cap_3_0/0")


def test_the_manifest_has_them_and_nothing_pairs_them(tmp_path: Path) -> None:
    make(tmp_path)
    work, images = work_of(), load(tmp_path)
    manifest = build_manifest(work.plan, images).set_index("caption_id", drop=False)
    refused = manifest[manifest["status"] == "quarantined"]
    assert refused["reason"].tolist() == list(REASONS.values())
    assert refused["shard"].tolist() == ["quarantine/00000.tar"] * 3 + ["quarantine/00001.tar"] * 2
    row = manifest.loc["cap_3_0"]
    content = (tmp_path / row["shard"]).read_bytes()
    assert content[row["offset"] : row["offset"] + row["size_bytes"]] == images.read_quarantined(row["key"])
    assert manifest.loc["cap_1_0", "size_bytes"] == 0
    made = manifest[manifest["status"] == "made"]
    assert (made["reason"] == "").all()
    pairs = pair_by_caption(spoil_captions(), made, params=PairingParams(val_fraction=0.5, seed=1))
    assert not set(pairs["generated_key"]) & set(images.quarantined)


def test_a_set_without_its_quarantine_is_not_whole(tmp_path: Path) -> None:
    make(tmp_path)
    description = load(tmp_path).description
    (tmp_path / "quarantine" / "00001.tar").unlink()
    assert missing_shards(tmp_path, description) == ["00001"]
    whole = tmp_path.with_suffix(".whole")
    make(whole)
    make(tmp_path)
    assert folder_bytes(tmp_path) == folder_bytes(whole)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_quarantine_does_not_depend_on_the_batch_size(batch_size: int, tmp_path: Path) -> None:
    words = SPOILT | {2: "again", 11: "again", 10: "again"}
    generate(make_work(spoil_captions(words), painter=Spoiler(), shard_size=12, batch_size=5), tmp_path / "five")
    other = make_work(spoil_captions(words), painter=Spoiler(), shard_size=12, batch_size=batch_size)
    report = generate(other, tmp_path / "other")
    assert report.quarantined["duplicate"] == 2
    assert folder_bytes(tmp_path / "five") == folder_bytes(tmp_path / "other")


def test_repeated_samples_of_a_caption_are_refused_in_whatever_shard_they_are(tmp_path: Path) -> None:
    words = {2: "again"}
    by_sample = make_work(spoil_captions(words), painter=Spoiler(), samples_per_caption=2, shard_size=6)
    plan = by_sample.plan.sort_values("sample_index", kind="stable", ignore_index=True)
    plan["shard_id"] = [f"{row // 6:05d}" for row in range(len(plan))]
    by_sample.plan = plan
    generate(by_sample, tmp_path / "apart")
    assert load(tmp_path / "apart").quarantined["cap_2_0/1"].detail.startswith("it differs from 'cap_2_0/0' in 0 bits")
    work = make_work(spoil_captions(words), painter=Spoiler(), samples_per_caption=2, shard_size=6)
    generate(work, tmp_path / "together")
    assert list(load(tmp_path / "together").quarantined) == ["cap_2_0/1"]


@pytest.mark.reliability(7)
def test_a_row_the_generator_fails_on_is_quarantined_and_the_run_goes_on(tmp_path: Path) -> None:
    report = make(tmp_path, {7: "poison"})
    assert report.quarantined == {"failed": 1}
    assert load(tmp_path).quarantined["cap_7_0/0"].detail.endswith("ValueError: poisoned")


def test_too_many_refusals_fail_the_run_before_hours_are_wasted(tmp_path: Path) -> None:
    log, changes = tmp_path / "log", {"max_quarantined": 0.3, "limit_after": 6}
    with pytest.raises(QuarantineError, match="5 of the 10 images judged so far") as caught:
        make(tmp_path / "set", painter=Spoiler(log), quality=changes)
    assert "| black | 1 | cap_3_0/0: its brightest pixel is 0" in str(caught.value)
    assert len(log.read_text().split()) < 12
    assert read_description(tmp_path / "set") is None
    # With another limit the run goes on where it was.
    log.unlink()
    make(tmp_path / "set", painter=Spoiler(log), quality={"max_quarantined": 0.5})
    assert len(log.read_text().split()) == 2
    make(tmp_path / "whole")
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "whole")


def test_a_small_set_is_measured_by_the_limit_at_its_end(tmp_path: Path) -> None:
    with pytest.raises(QuarantineError, match="5 of the 12 images"):
        make(tmp_path, quality={"max_quarantined": 0.3})
    assert read_description(tmp_path) is None
    refuse = Painter(before=lambda: pytest.fail("a finished image was made again"))
    make(tmp_path, painter=refuse, quality={"max_quarantined": 0.5})
    with pytest.raises(QuarantineError, match="5 of the 12 images"):
        make(tmp_path, painter=refuse, quality={"max_quarantined": 0.3})


class Recovering(Spoiler):
    """Spoils a prompt only with the seed that the plan gives it."""

    def __init__(self, log: Path | None = None) -> None:
        super().__init__(log)
        self.planned = set(work_of().plan["seed"].tolist())

    def denoise(self, prompts, seeds):
        pairs = zip(prompts, seeds, strict=True)
        return super().denoise([p if s in self.planned else p.split()[-1] for p, s in pairs], seeds)


@pytest.mark.reliability(7)
def test_only_quarantined_rows_are_retried_and_only_their_shards_are_rewritten(tmp_path: Path) -> None:
    """Test 7 of the fault tests: what failed is made again alone, with another seed that the facts declare."""
    make(tmp_path / "set")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*.tar")}
    log = tmp_path / "log"
    report = make(tmp_path / "set", painter=Recovering(log), quality={"retries": 1})
    plan = work_of().plan
    again = plan[plan["caption_id"].isin([f"cap_{row}_0" for row in SPOILT])]
    assert sorted(log.read_text().split()) == sorted(str(retry_seed(seed, 1)) for seed in again["seed"])
    assert (report.quarantined, report.kept_count, report.made_count) == ({}, 1, len(SPOILT))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*.tar")}
    assert [name for name in sorted(after) if after[name] == before[name]] == ["00002.tar"]
    assert not (tmp_path / "set" / "quarantine").exists()
    facts = {record.key: record.facts for record in read_shard(tmp_path / "set" / "00000.tar")}
    assert "retry" not in facts["cap_0_0/0"]
    assert facts["cap_3_0/0"]["retry"] == 1
    manifest = build_manifest(plan, load(tmp_path / "set")).set_index("key")
    assert manifest.loc["cap_3_0/0", "seed"] == facts["cap_3_0/0"]["seed"] == retry_seed(int(plan["seed"][3]), 1)
    assert manifest.loc["cap_0_0/0", "seed"] == plan["seed"][0]
    # The same as if retries had been there from the start.
    make(tmp_path / "whole", painter=Recovering(), quality={"retries": 1})
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "whole")


def test_a_row_that_fails_every_retry_stays_in_quarantine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    make(tmp_path / "set", {3: "black"}, painter=Spoiler(log), quality={"retries": 2})
    assert max(Counter(log.read_text().split()).values()) == 1
    assert len(log.read_text().split()) == 12 + 2
    (record,) = read_shard(tmp_path / "set" / "quarantine" / "00000.tar")
    assert (record.facts["retry"], record.facts["reason"]) == (2, "black")
    refuse = Painter(before=lambda: pytest.fail("a finished image was made again"))
    make(tmp_path / "set", {3: "black"}, painter=refuse, quality={"retries": 2})


def test_a_changed_gate_judges_stored_images_and_makes_none(tmp_path: Path) -> None:
    words = {2: "again", 4: "again"}
    make(tmp_path, words)
    assert list(load(tmp_path).quarantined) == ["cap_4_0/0"]
    before = folder_bytes(tmp_path)
    refuse = Painter(before=lambda: pytest.fail("a finished image was made again"))
    report = make(tmp_path, words, painter=refuse, quality={"duplicate_distance": None})
    assert (report.quarantined, report.made_count, report.kept_count) == ({}, 0, 2)
    assert len(load(tmp_path)) == 12
    make(tmp_path, words, painter=refuse)
    assert folder_bytes(tmp_path) == before


@pytest.mark.parametrize("gate", [{"duplicate_distance": None, "retries": 1}, {"retries": 0}])
def test_what_was_accepted_after_a_retry_is_not_taken_by_a_gate_that_would_not_have_made_it(
    tmp_path: Path, gate: dict[str, object]
) -> None:
    words = {2: "again", 4: "again"}
    make(tmp_path / "set", words, painter=Recovering(), quality={"retries": 1})
    facts = {record.key: record.facts for record in read_shard(tmp_path / "set" / "00000.tar")}
    assert facts["cap_4_0/0"]["retry"] == 1
    quality = {"max_quarantined": 0.5, **gate}
    # The same as if the set had never been judged otherwise.
    make(tmp_path / "set", words, painter=Recovering(), quality=quality)
    make(tmp_path / "new", words, painter=Recovering(), quality=quality)
    assert folder_bytes(tmp_path / "set") == folder_bytes(tmp_path / "new")


def test_a_kill_between_two_gates_leaves_no_verdict_of_the_one_before(tmp_path: Path, monkeypatch) -> None:
    words = {2: "again", 4: "again"}
    make(tmp_path, words)
    monkeypatch.setattr("gmail_kedro.generated_sets.generate._close", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        make(tmp_path, words, quality={"duplicate_distance": None})
    monkeypatch.undo()
    # The first gate again: what the second let in must go, though the folder was once judged by the first.
    refuse = Painter(before=lambda: pytest.fail("a finished image was made again"))
    assert make(tmp_path, words, painter=refuse).quarantined == {"duplicate": 1}
    make(tmp_path.with_suffix(".whole"), words)
    assert folder_bytes(tmp_path) == folder_bytes(tmp_path.with_suffix(".whole"))


def test_a_set_made_before_there_was_a_gate_is_judged(tmp_path: Path) -> None:
    words = {2: "again", 4: "again"}
    make(tmp_path, words, quality={"duplicate_distance": None})
    content = json.loads((tmp_path / "set.json").read_text())
    del content["quality"], content["quarantined"]
    content.pop("sha256")
    (tmp_path / "set.json").write_text(json.dumps(content))
    refuse = Painter(before=lambda: pytest.fail("a finished image was made again"))
    assert make(tmp_path, words, painter=refuse).quarantined == {"duplicate": 1}
    assert load(tmp_path).description.quality == work_of().gate.settings
