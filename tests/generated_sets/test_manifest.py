import hashlib
from pathlib import Path

import pytest

from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.plan import PLAN_COLUMNS
from gmail_kedro.generated_sets.stored_images import ShardImages, describe_set

from .painting import SETTINGS, generate, make_work


@pytest.fixture
def images(tmp_path: Path) -> ShardImages:
    generate(make_work(), tmp_path)
    return ShardImages(tmp_path, describe_set(make_work().plan, SETTINGS))


def test_says_where_every_image_lies_and_what_made_it(images: ShardImages) -> None:
    plan = make_work().plan
    manifest = build_manifest(plan, images)
    facts = ["generator", "revision", "steps", "guidance", "status", "reason"]
    assert manifest.columns.tolist() == [*PLAN_COLUMNS, "shard", "offset", "size_bytes", "sha256", *facts]
    assert manifest["key"].tolist() == plan["key"].tolist()
    for row in manifest.itertuples():
        jpeg = (images.folder / row.shard).read_bytes()[row.offset : row.offset + row.size_bytes]
        assert hashlib.sha256(jpeg).hexdigest() == row.sha256
    made = {tuple(row) for row in manifest[facts].itertuples(index=False)}
    assert made == {("painter", "paint-1", 1, 3.0, "made", "")}


def test_refuses_a_set_made_from_another_plan(images: ShardImages) -> None:
    with pytest.raises(ValueError, match="made from another plan"):
        build_manifest(make_work(image_count=4).plan, images)


def test_refuses_a_set_that_lacks_or_exceeds_the_plan(images: ShardImages) -> None:
    plan = make_work().plan
    del images._index["cap_3_1/0"]
    with pytest.raises(ValueError, match="lacks 1 images .*'cap_3_1/0'"):
        build_manifest(plan, images)
    images._index["cap_3_1/0"] = images._index["extra/0"] = images._index["cap_0_0/0"]
    with pytest.raises(ValueError, match="beyond the plan, 1 images .*'extra/0'"):
        build_manifest(plan, images)
