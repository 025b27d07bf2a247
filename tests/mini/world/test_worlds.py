"""The worlds that are only measured on: other scenes and words, and no handwriting that is trained on."""

import re

import numpy as np
import pytest
from kedro.io import DatasetError

from gmail_kedro.evaluation.leakage import refuse_leakage
from gmail_kedro.mini.world.caption_grammar import TEENS, TENS, UNITS, describe_at_length
from gmail_kedro.mini.world.datasets import MiniWorldDataset
from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.world_files import _draw_pages, draw_world
from gmail_kedro.mini.world.worlds import KINDS

MAIN = MiniWorldParams(train_count=6, val_count=1, test_count=300, seed=0)


def benchmarks(flickr_count, long_caption_count):
    return MiniBenchmarksParams(
        flickr_count=flickr_count, long_caption_count=long_caption_count, scienceqa_count=1, mmmu_count=1, seed=0
    )


BENCHMARKS = benchmarks(300, 60)


def entries(kind):
    params = MAIN if kind == "main" else BENCHMARKS
    return [page.entry for page in _draw_pages(params, kind) if page.entry.split == "test"]


@pytest.fixture(scope="module")
def drawn():
    return {kind: entries(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", ["flickr", "long_captions"])
def test_benchmarks_are_in_handwriting_that_training_never_shows(kind, drawn):
    trained = {stroke.tobytes() for stroke in load_scans("train").strokes}
    test = load_scans("test").strokes
    used = {test[scan].tobytes() for entry in drawn[kind] for scan in entry.scene.scan_ids}
    assert {entry.split for entry in drawn[kind]} == {"test"}
    assert len(used) > 50 and not used & trained


def test_no_two_worlds_of_one_seed_share_a_scene(drawn):
    scenes = [entry.scene for world in drawn.values() for entry in world]
    assert len(set(scenes)) == len(scenes) == 660


def share(world, holds):
    return np.mean([holds(entry.scene) for entry in world])


def test_flickr_shows_and_says_other_things(drawn):
    main, flickr = drawn["main"], drawn["flickr"]
    for holds, more in (
        (lambda scene: len(scene.digits) == 2, 0.15),
        (lambda scene: scene.ink in ("black", "blue"), 0.27),
        (lambda scene: scene.size == "small", 0.15),
        (lambda scene: scene.pattern != "plain", 0.2),
    ):
        assert share(flickr, holds) - share(main, holds) == pytest.approx(more, abs=0.1)
    words = {
        name: re.findall("[a-z]+", " ".join(caption for entry in drawn[name] for caption in entry.captions).lower())
        for name in ("main", "flickr")
    }
    assert words["flickr"].count("handwritten") > 1.3 * words["main"].count("handwritten")
    assert set(words["flickr"]) - {*UNITS, *TEENS, *TENS} == set(words["main"]) - {*UNITS, *TEENS, *TENS}


def test_long_captions_stand_in_any_order_and_say_the_same(drawn):
    starts = {entry.long_caption.split()[0] for entry in drawn["long_captions"]}
    assert {"This", "The"} < starts
    assert {entry.long_caption.split()[0] for entry in drawn["main"]} == {"This"}
    for index, entry in enumerate(drawn["long_captions"]):
        in_order = describe_at_length(entry.scene, np.random.default_rng((0, 4, index, 2)))
        assert sorted(in_order.removesuffix(".").split(". ")) == sorted(
            entry.long_caption.removesuffix(".").split(". ")
        )


def test_each_kind_is_read_as_the_corpus_it_stands_for(tmp_path):
    small = benchmarks(5, 4)
    datasets = {kind: MiniWorldDataset(filepath=str(tmp_path / kind), name=kind, kind=kind) for kind in KINDS}
    datasets["main"].save(draw_world(MiniWorldParams(train_count=4, val_count=1, test_count=1, seed=0)))
    for kind in ("flickr", "long_captions"):
        datasets[kind].save(draw_world(small, kind))
        refuse_leakage(datasets["main"].load(), datasets[kind].load())
    flickr, long = datasets["flickr"].load(), datasets["long_captions"].load()
    assert set(flickr.captions["split"]) == set(long.captions["split"]) == {"test"}
    assert (len(flickr.captions), flickr.captions["image_id"].nunique()) == (25, 5)
    assert (len(long.captions), long.captions["image_id"].nunique()) == (4, 4)
    assert long.captions["caption"].str.count(r"\.").min() >= 5
    assert all(long.images.read(image_id)[:2] == b"\xff\xd8" for image_id in long.captions["image_id"])


def test_a_world_is_of_one_kind_and_depends_on_its_own_size_alone(tmp_path):
    files = draw_world(benchmarks(2, 4), "flickr")
    assert files == draw_world(benchmarks(2, 9), "flickr")
    assert files.keys() < draw_world(benchmarks(3, 4), "flickr").keys()
    MiniWorldDataset(filepath=str(tmp_path), kind="flickr").save(files)
    other = MiniWorldDataset(filepath=str(tmp_path))
    assert not other.exists()
    with pytest.raises(DatasetError, match="must be of the kind 'main'. Got 'flickr'.*Write it again"):
        other.load()
    with pytest.raises(TypeError, match="kind 'main' is made from MiniWorldParams. Got MiniBenchmarksParams"):
        draw_world(BENCHMARKS)
    with pytest.raises(ValueError, match=r"must be one of \['main', 'flickr', 'long_captions'\]. Got 'coco'"):
        draw_world(BENCHMARKS, "coco")
    with pytest.raises(DatasetError, match=r"must be one of \['main', 'flickr', 'long_captions'\]. Got 'coco'"):
        MiniWorldDataset(filepath=str(tmp_path), kind="coco")
