"""Questions with images: true answers, the same every time, and captions asked only for what they state."""

import io

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.mini.world.caption_grammar import describe
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import sample_scene
from gmail_kedro.mini.world.visual_questions import answered_by, ask_about_caption, draw_questions, read_caption
from gmail_kedro.models.vision_language.prompts import LETTERS


def test_captions_are_read_as_they_were_written():
    rng, scans = np.random.default_rng(0), load_scans("train")
    seen: dict[str, int] = {}
    for _ in range(300):
        scene = sample_scene(rng, scans)
        truth = {"digits": scene.number} | {
            name: getattr(scene, name) for name in ("ink", "paper", "pattern", "size", "position")
        }
        answers = {question.topic: question.answer for question in ask(scene, rng)}
        for caption in describe(scene, rng):
            facts = read_caption(caption)
            assert facts.items() <= truth.items(), caption
            assert all(answers[question.topic] == question.answer for question in answered_by(caption, rng)), caption
            seen = {name: seen.get(name, 0) + (name in facts) for name in truth}
    assert min(seen.values()) > 300  # each fact is found in many of the 1,500


@pytest.mark.parametrize(
    ("caption", "facts"),
    [
        (
            "a tiny forty two in red ink near the top edge.",
            {"digits": "42", "size": "small", "ink": "red", "position": "top"},
        ),
        ("a number on pink ruled paper where one digit written twice.", {"paper": "pink", "pattern": "lined"}),
        ("the digit zero.", {"digits": "0"}),
        ("zero three.", {"digits": "03"}),
        ("a street with cars.", {}),
    ],
)
def test_what_a_caption_does_not_say_is_not_made_up(caption, facts):
    assert read_caption(caption) == facts


def test_a_caption_that_says_nothing_is_asked_nothing():
    rng = np.random.default_rng(0)
    assert ask_about_caption("a street with cars.", rng, count=3) == []
    assert len(ask_about_caption("the digit 7 in red ink on lined paper.", rng, count=2)) == 2


@pytest.mark.parametrize("kind", ["choices", "open"])
def test_questions_are_the_same_every_time_and_have_images(kind):
    first, again = (draw_questions("test", kind=kind, count=12, seed=3) for _ in range(2))
    assert first == again and first != draw_questions("test", kind=kind, count=12, seed=4)
    assert len({question.question_id for question in first}) == 12
    for question in first:
        assert Image.open(io.BytesIO(question.image or b"")).size == (32, 32)
        assert (question.answers[0] in tuple(LETTERS)) == (kind == "choices")
        assert len(question.options) == (4 if kind == "choices" else 0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"one of \['choices', 'open'\]. Got 'essay' instead"):
        draw_questions("test", kind="essay", count=1, seed=0)
