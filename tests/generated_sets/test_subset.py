"""A subset is a set like any other: complete, exact, and what generating it directly would have given."""

import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gmail_kedro.generated_sets.set_folder import GeneratedSet
from gmail_kedro.generated_sets.shard_format import ShardError
from gmail_kedro.generated_sets.subset import choose_rows, copy_subset, number_shards
from gmail_kedro.generated_sets.verify import verify_set

from .complete_sets import make_set
from .painting import folder_bytes, make_captions
from .test_verify import PICKY


@pytest.fixture
def made(tmp_path: Path) -> GeneratedSet:
    return make_set(tmp_path / "painted", samples_per_caption=2)


@pytest.mark.parametrize("quality", [{}, PICKY, PICKY | {"retries": 2}])
def test_the_first_real_images_are_the_set_that_generating_for_them_gives(tmp_path: Path, quality: dict):
    captions = make_captions(image_count=8)
    whole = make_set(tmp_path / "whole", captions, quality=quality)
    direct = make_set(tmp_path / "direct", captions, quality=quality, image_count=5)
    copied = copy_subset(whole, choose_rows(whole.manifest, real_image_count=5), tmp_path / "copied")
    assert folder_bytes(copied.folder / "shards") == folder_bytes(direct.folder / "shards")
    assert copied.manifest.equals(direct.manifest) and copied.plan.equals(direct.plan)


def test_chosen_captions_and_samples_make_a_whole_set(made: GeneratedSet, tmp_path: Path):
    rows = choose_rows(made.manifest, caption_ids=["cap_0_1", "cap_3_0", "cap_4_1"], samples_per_caption=1)
    copied = copy_subset(made, rows, tmp_path / "copied")
    assert copied.manifest["key"].tolist() == ["cap_3_0/0", "cap_0_1/0", "cap_4_1/0"]  # by caption rank first
    assert all(copied.read(key) == made.read(key) for key in copied.manifest["key"])
    assert verify_set(copied.folder).problems == ()
    assert (copied.folder / "captions.parquet").is_file()


def test_prompts_that_were_cut_are_counted_anew(tmp_path: Path):
    captions = make_captions(image_count=3)
    captions.loc[[0, 4], "caption"] = "more words than the painter reads at all"
    whole = make_set(tmp_path / "whole", captions)
    copied = copy_subset(whole, choose_rows(whole.manifest, real_image_count=2), tmp_path / "copied")
    counts = [made.images.description.truncated_prompt_count for made in (whole, copied)]
    assert counts == [2, 1]


def test_the_shards_of_each_lane_are_filled_up_from_its_first():
    came_from = pd.Series(["00000", "00000", "00003", "100000", "100001", "100001", "7100002"], index=range(3, 10))
    expected = ["00000", "00000", "00001", "100000", "100000", "100001", "7100000"]
    assert number_shards(came_from, 2).tolist() == expected


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"real_image_count": 0}, "real images must be between 1 and the set's own 5. Got 0"),
        ({"real_image_count": 6}, "between 1 and the set's own 5. Got 6"),
        ({"samples_per_caption": 3}, "samples per caption must be between 1 and the set's own 2. Got 3"),
        ({"caption_ids": ["cap_0_0", "nothing"]}, "1 of the 2 caption ids .first: 'nothing'"),
        ({"real_image_count": 1, "caption_ids": ["cap_4_0"]}, "together leave no image"),
    ],
)
def test_limits_that_cannot_be_met_are_refused(made: GeneratedSet, limits: dict, words: str):
    with pytest.raises(ValueError, match=words):
        choose_rows(made.manifest, **limits)


def test_a_set_that_is_there_is_not_written_over(made: GeneratedSet):
    before = folder_bytes(made.folder)
    with pytest.raises(FileExistsError, match="Choose another name"):
        copy_subset(made, choose_rows(made.manifest, real_image_count=1), made.folder)
    assert folder_bytes(made.folder) == before


def test_an_image_other_than_the_manifests_is_not_copied(made: GeneratedSet, tmp_path: Path):
    rows = choose_rows(made.manifest.assign(sha256="0" * 64), real_image_count=1)
    with pytest.raises(ShardError, match="not the one in the manifest"):
        copy_subset(made, rows, tmp_path / "copied")
    assert not (tmp_path / "copied").exists()


def test_what_a_killed_copy_left_is_replaced(made: GeneratedSet, tmp_path: Path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = tmp_path / f"copied.{socket.gethostname()}.{child.pid}.partial" / "shards"
    left.mkdir(parents=True)
    (left / "00099.tar").write_bytes(b"torn")
    copied = copy_subset(made, choose_rows(made.manifest, real_image_count=2), tmp_path / "copied")
    assert verify_set(copied.folder).problems == () and not left.exists()
