"""The facts read off a caption are those it was written from."""

import numpy as np
import pytest

from gmail_kedro.metrics.scene_tuples import tuple_f1
from gmail_kedro.mini.world.caption_facts import scene_tuples
from gmail_kedro.mini.world.caption_grammar import describe
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene


def facts_of(scene):
    """Returns everything that is true of a scene, as tuples."""
    facts = {("number", scene.number), ("digits", "one" if len(scene.digits) == 1 else "two"), ("ink", scene.ink)}
    facts |= {("paper", scene.paper), ("pattern", scene.pattern), ("size", scene.size), ("position", scene.position)}
    return facts | ({("relation", scene.relation)} if len(scene.digits) == 2 else set())


def test_captions_state_true_facts_and_together_nearly_all_of_them():
    rng, scans = np.random.default_rng(3), load_scans("test")
    stated = total = 0
    for _ in range(400):
        scene = sample_scene(rng, scans)
        captions = describe(scene, rng)
        facts = frozenset().union(*map(scene_tuples, captions))
        assert facts <= facts_of(scene), (captions, facts - facts_of(scene))
        assert all(scene_tuples(caption) for caption in captions)
        stated, total = stated + len(facts), total + len(facts_of(scene))
    assert stated / total > 0.85


@pytest.mark.parametrize(
    ("caption", "facts"),
    [
        ("A small blue 42 on yellow lined paper.", "size small, ink blue, number 42, paper yellow, pattern lined"),
        ("the number forty two in red ink near the top edge", "digits two, number 42, ink red, position top"),
        ("a number where one digit written twice", "digits two, relation double"),
        ("the digit one on a checked sheet", "digits one, number 1, pattern squared"),
        ("zero four written in green on a pink page", "number 04, ink green, paper pink"),
        ("a red 7 on a red page", "ink red, number 7, paper red"),
        ("a red and blue 7, or an 8", "ink red, ink blue, number 7, number 8"),
        ("A DOG 123 – naïve", ""),
        ("", ""),
    ],
)
def test_facts_of_a_caption(caption, facts):
    assert scene_tuples(caption) == {tuple(fact.split()) for fact in facts.split(", ") if fact}


def test_f1_by_hand():
    references = {"a": ["a blue 7 on yellow paper", "a small 7"], "b": ["a red 4"], "c": ["a red 4"], "d": ["a red 4"]}
    predictions = {"a": "a blue 9", "b": "a red 4 .", "c": "", "d": "a dog"}
    f1 = tuple_f1(predictions, references, scene_tuples)
    assert f1.tolist() == [200 * 1 / (2 + 4), 100.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({}, {}, "at least one image"),
        ({}, {"a": ["a red 4"]}, "Image 'a' has none"),
        ({"a": "a red 4"}, {"a": ["a dog"]}, "image 'a' state no fact that the grammar knows"),
    ],
)
def test_wrong_captions_are_refused(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        tuple_f1(predictions, references, scene_tuples)
