"""What is said about a scene is true, varied and reproducible."""

import re

import numpy as np
import pytest

from gmail_kedro.mini.world.caption_grammar import (
    CAPTION_COUNT,
    PATTERN_WORDS,
    POSITION_PHRASES,
    RELATION_PHRASES,
    SIZE_WORDS,
    TEENS,
    TENS,
    UNITS,
    describe,
    describe_at_length,
    number_in_words,
    web_text,
)
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import INKS, PAPERS, Scene, sample_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [sample_scene(rng, load_scans("test")) for _ in range(300)]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def _false_claims(text: str, scene: Scene) -> list[str]:
    """Returns the words and phrases of a caption that are not true of its scene."""
    false = _words(text) & (set(INKS) - {scene.ink})  # no colour is both an ink and a paper
    false |= _words(text) & (set(PAPERS) - {scene.paper})
    for facts, true in ((SIZE_WORDS, scene.size), (PATTERN_WORDS, scene.pattern)):
        false |= {word for fact, words in facts.items() if fact != true for word in words} & _words(text)
    for facts, true in ((POSITION_PHRASES, scene.position), (RELATION_PHRASES, scene.relation)):
        false |= {phrase for fact, phrases in facts.items() if fact != true for phrase in phrases if phrase in text}
    false |= {number for number in re.findall(r"\d+", text) if number != scene.number}
    return sorted(false)


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ((0,), "zero"), ((7,), "seven"), ((0, 4), "zero four"), ((1, 0), "ten"), ((1, 9), "nineteen"),
        ((2, 0), "twenty"), ((4, 2), "forty two"), ((9, 9), "ninety nine"),
    ],
)  # fmt: skip
def test_number_in_words(digits, words):
    assert number_in_words(digits) == words


def test_five_different_true_captions(scenes):
    rng = np.random.default_rng(0)
    for scene in scenes:
        captions = describe(scene, rng)
        assert len(set(captions)) == CAPTION_COUNT == 5
        for caption in captions:
            assert _false_claims(caption, scene) == []
            assert caption.endswith(".") and not caption.endswith("..")
            assert "  " not in caption


def test_number_words_in_captions_are_the_number(scenes):
    rng = np.random.default_rng(1)
    spelled = set(UNITS) | set(TEENS) | set(TENS) - {""}
    for scene in scenes:
        said = set(number_in_words(scene.digits).split())
        for caption in describe(scene, rng):
            relation_free = caption.replace("one digit written twice", "")
            assert _words(relation_free) & spelled <= said


def test_articles_fit_the_sound(scenes):
    rng = np.random.default_rng(2)
    text = " ".join(caption for scene in scenes for caption in describe(scene, rng))
    text += " ".join(describe_at_length(scene, rng) for scene in scenes)
    assert not re.search(r"\ban (one|[0-79](?!\d)|1[02-79]\b|[02-79]\d)\b", text)
    assert not re.search(r"\ba (8|11\b|18\b|eight|eleven|orange)", text)
    assert re.search(r"\ban 8", text)


def test_long_captions_state_every_fact(scenes):
    rng = np.random.default_rng(3)
    for scene in scenes:
        text = describe_at_length(scene, rng)
        assert _false_claims(text, scene) == []
        assert {scene.number, scene.ink, scene.paper} <= _words(text)
        assert number_in_words(scene.digits) in text
        assert _words(text) & set(SIZE_WORDS[scene.size])
        assert _words(text) & set(PATTERN_WORDS[scene.pattern])
        assert any(phrase in text for phrase in POSITION_PHRASES[scene.position])
        if len(scene.digits) == 2:
            assert any(phrase in text for phrase in RELATION_PHRASES[scene.relation])


def test_web_texts_are_true_unless_they_describe_a_stranger(scenes):
    rng = np.random.default_rng(4)
    texts = [web_text(scene, rng) for scene in scenes]
    assert all(text and not _false_claims(text, scene) for text, scene in zip(texts, scenes, strict=True))
    pairs = list(zip(scenes, [*scenes[1:], scenes[0]], strict=True)) * 5
    wrong = [bool(_false_claims(web_text(scene, rng, stranger=other), scene)) for scene, other in pairs]
    assert 0.02 < np.mean(wrong) < 0.06


def test_the_same_rng_says_the_same(scenes):
    for speak in (describe, describe_at_length, web_text):
        first, second = (speak(scenes[0], np.random.default_rng(7)) for _ in range(2))
        assert first == second
