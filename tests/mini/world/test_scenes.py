"""Handwriting is split before anything is drawn, and a scene's pixels show its facts."""

import dataclasses

import numpy as np
import pytest

from gmail_kedro.mini.world.scanned_digits import SPLIT_SIZES, load_scans
from gmail_kedro.mini.world.scenes import (
    INKS,
    PAIR_POSITIONS,
    PAPERS,
    PATTERNS,
    SINGLE_POSITIONS,
    SIZES,
    Scene,
    draw_pool,
    render_scene,
    sample_scene,
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng, load_scans("train")) for _ in range(1000)]


def _scene(**changes) -> Scene:
    scans = load_scans("test")
    plain = Scene((4,), (int(scans.by_value[4][0]),), "black", "white", "plain", "small", "middle", seed=3)
    return dataclasses.replace(plain, **changes)


def _darkness(scene: Scene) -> np.ndarray:
    """Returns how much ink there is, [32, 32]."""
    pixels = render_scene(scene, load_scans("test")).astype(float).mean(-1)
    return np.where(pixels < 150, 255 - pixels, 0)


def test_the_splits_share_no_scan_and_use_all_of_them():
    from sklearn.datasets import load_digits

    strokes = {split: load_scans(split).strokes for split in SPLIT_SIZES}
    assert {split: len(some) for split, some in strokes.items()} == {"train": 1197, "val": 200, "test": 400}
    as_bytes = {split: [scan.tobytes() for scan in some] for split, some in strokes.items()}
    every = [scan for some in as_bytes.values() for scan in some]
    originals = (load_digits().data / 16.0).astype(np.float32)
    assert sorted(every) == sorted(scan.tobytes() for scan in originals)
    assert len(set(every)) == len(every)


def test_scans_show_what_their_values_say():
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    value_of = {
        (scan / 16.0).astype(np.float32).tobytes(): int(value) for scan, value in zip(data, target, strict=True)
    }
    for split in SPLIT_SIZES:
        scans = load_scans(split)
        assert [value_of[stroke.tobytes()] for stroke in scans.strokes] == scans.values.tolist()
        for digit, positions in enumerate(scans.by_value):
            assert len(positions) > 0
            assert set(scans.values[positions]) == {digit}


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split of load_scans must be one of \['train', 'val', 'test'\]. Got 'dev'"):
        load_scans("dev")


def test_scans_are_of_the_digits_named(scenes):
    values = load_scans("train").values
    assert all(tuple(values[list(scene.scan_ids)]) == scene.digits for scene in scenes)


def test_every_fact_takes_every_value(scenes):
    assert {scene.ink for scene in scenes} == set(INKS)
    assert {scene.paper for scene in scenes} == set(PAPERS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)
    assert {scene.size for scene in scenes} == set(SIZES)
    assert {scene.position for scene in scenes if len(scene.digits) == 1} == set(SINGLE_POSITIONS)
    assert {scene.position for scene in scenes if len(scene.digits) == 2} == set(PAIR_POSITIONS)
    assert {digit for scene in scenes for digit in scene.digits} == set(range(10))
    assert sum(len(scene.digits) == 2 for scene in scenes) == pytest.approx(400, abs=60)


@pytest.mark.parametrize(("fraction", "lengths"), [(0.0, {1}), (1.0, {2})])
def test_pair_fraction_reaches_both_ends(fraction, lengths):
    rng = np.random.default_rng(1)
    drawn = [sample_scene(rng, load_scans("val"), pair_fraction=fraction) for _ in range(50)]
    assert {len(scene.digits) for scene in drawn} == lengths


@pytest.mark.parametrize(
    ("digits", "number", "relation"),
    [((7,), "7", "single"), ((0, 4), "04", "rising"), ((9, 1), "91", "falling"), ((3, 3), "33", "double")],
)
def test_number_and_relation(digits, number, relation):
    scene = _scene(digits=digits)
    assert (scene.number, scene.relation) == (number, relation)


def test_the_ink_and_the_paper_have_their_colours():
    for ink in INKS:
        pixels = render_scene(_scene(ink=ink, size="large"), load_scans("test")).reshape(-1, 3) / 255
        distances = {name: np.linalg.norm(pixels - colour, axis=1).min() for name, colour in INKS.items()}
        assert min(distances, key=distances.__getitem__) == ink
    for paper in PAPERS:
        median = np.median(render_scene(_scene(paper=paper), load_scans("test")).reshape(-1, 3) / 255, axis=0)
        distances = {name: np.linalg.norm(median - colour) for name, colour in PAPERS.items()}
        assert min(distances, key=distances.__getitem__) == paper


def test_the_number_stands_where_the_position_says():
    rows, columns = np.mgrid[:32, :32]
    for position in SINGLE_POSITIONS:
        ink = _darkness(_scene(position=position))
        x, y = (ink * columns).sum() / ink.sum() - 15.5, (ink * rows).sum() / ink.sum() - 15.5
        seen = "middle" if max(abs(x), abs(y)) < 4 else ("left", "right", "top", "bottom")[
            (0 if x < 0 else 1) if abs(x) > abs(y) else (2 if y < 0 else 3)
        ]  # fmt: skip
        assert seen == position


def test_large_digits_cover_more_and_patterns_draw_lines():
    assert _darkness(_scene(size="large")).sum() > 1.3 * _darkness(_scene(size="small")).sum()
    edge = {
        pattern: render_scene(_scene(pattern=pattern), load_scans("test")).astype(float)[:, :6].mean((1, 2))
        for pattern in PATTERNS
    }
    assert edge["plain"].std() < 8 < edge["lined"].std()


def test_the_same_seed_draws_the_same_bytes():
    scans = load_scans("val")
    first, second = (draw_pool(scans, count=20, seed=5) for _ in range(2))
    other = draw_pool(scans, count=20, seed=6)
    assert first.scenes == second.scenes
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.pixels.shape == (20, 32, 32, 3)
    assert first.pixels.dtype == np.uint8
    assert first.pixels.tobytes() != other.pixels.tobytes()
