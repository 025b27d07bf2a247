"""Labels and answers are true, checked here in other words than those that made them."""

import re
from collections import Counter

import numpy as np
import pytest

from gmail_kedro.mini.world.caption_grammar import PATTERN_WORDS, POSITION_PHRASES, web_text
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import TASKS, Question, ask
from gmail_kedro.mini.world.scenes import Scene, sample_scene


def _scene(digits: tuple[int, ...], **changes) -> Scene:
    facts = {"ink": "red", "paper": "gray", "pattern": "lined", "size": "large", "position": "top", "seed": 0}
    return Scene(digits=digits, scan_ids=(0,) * len(digits), **{**facts, **changes})


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(21)
    return [sample_scene(rng, load_scans("test")) for _ in range(400)]


def _class_of(task: str, scene: Scene) -> str | None:
    label = TASKS[task].label(scene)
    return None if label is None else TASKS[task].classes[label]


def test_there_are_eight_tasks():
    assert list(TASKS) == ["digit", "ink", "paper", "pattern", "size", "position", "count", "relation"]
    for task in TASKS.values():
        assert len(set(task.classes)) == len(task.classes) >= 2
        assert 1 <= len(task.templates) <= 3
        assert all(template.count("{}") == 1 for template in task.templates)


@pytest.mark.parametrize(
    ("task", "scene", "expected"),
    [
        ("digit", _scene((7,)), "7"),
        ("digit", _scene((7, 1)), None),
        ("ink", _scene((7,)), "red"),
        ("paper", _scene((7,)), "gray"),
        ("pattern", _scene((7,)), "lined"),
        ("pattern", _scene((7,), pattern="plain"), "plain"),
        ("size", _scene((7,)), "large"),
        ("position", _scene((7,), position="left"), "left"),
        ("position", _scene((7, 1)), "top"),
        ("count", _scene((7,)), "digit"),
        ("count", _scene((7, 1)), "number"),
        ("relation", _scene((7,)), None),
        ("relation", _scene((1, 7)), "the second digit is larger than the first"),
        ("relation", _scene((7, 1)), "the second digit is smaller than the first"),
        ("relation", _scene((7, 7)), "both digits are the same"),
    ],
)
def test_labels_are_true(task, scene, expected):
    assert _class_of(task, scene) == expected


def test_every_class_occurs(scenes):
    for name, task in TASKS.items():
        labels = {task.label(scene) for scene in scenes} - {None}
        assert labels == set(range(len(task.classes))), name


def test_class_names_are_words_of_the_web_texts(scenes):
    rng = np.random.default_rng(0)
    known = {word for scene in scenes for _ in range(10) for word in web_text(scene, rng).split()}
    for name in TASKS.keys() - {"relation"}:  # web texts do not compare digits
        assert {word for label in TASKS[name].classes for word in label.split()} <= known, name


def test_questions_of_a_single_digit():
    topics = [question.topic for question in ask(_scene((7,)), np.random.default_rng(0))]
    assert topics == ["number", "ink", "paper", "size", "position", "pattern", "comparison"]


def test_answers_are_true():
    scene = _scene((8, 5), position="bottom")
    answers = {question.topic: question.answer for question in ask(scene, np.random.default_rng(0))}
    assert answers == {
        "number": "85",
        "ink": "red",
        "paper": "gray",
        "size": "two large digits",
        "position": "at the bottom",
        "pattern": "lined",
        "comparison": "the second digit is smaller than the first",
        "sum": "13",
    }
    single = {question.topic: question.answer for question in ask(_scene((0,)), np.random.default_rng(0))}
    assert (single["number"], single["size"], single["comparison"]) == (
        "0",
        "one large digit",
        "there is only one digit",
    )


def _true_choices(question: Question, scene: Scene) -> list[str]:
    """Returns the choices that are true of the scene, told by looking at the words of each choice."""
    digits = scene.digits
    tests = {
        "number": lambda choice: choice == "".join(map(str, digits)),
        "ink": lambda choice: choice == scene.ink,
        "paper": lambda choice: choice == scene.paper,
        "size": lambda choice: (scene.size in choice) and (("two" in choice) == (len(digits) == 2)),
        "position": lambda choice: choice in POSITION_PHRASES[scene.position],
        "pattern": lambda choice: choice in PATTERN_WORDS[scene.pattern],
        "sum": lambda choice: int(choice) == sum(digits),
        "comparison": lambda choice: {
            "larger": digits[0] < digits[-1],
            "smaller": digits[0] > digits[-1],
            "same": len(digits) == 2 and digits[0] == digits[1],
            "only": len(digits) == 1,
        }[re.search("larger|smaller|same|only", choice).group()],
    }
    return [choice for choice in question.choices if tests[question.topic](choice)]


def test_exactly_one_of_four_different_choices_is_true(scenes):
    rng, positions = np.random.default_rng(5), Counter()
    for scene in scenes:
        for question in ask(scene, rng):
            assert len(set(question.choices)) == 4
            assert _true_choices(question, scene) == [question.answer]
            positions[question.answer_index] += 1
    total = sum(positions.values())
    assert all(abs(positions[index] / total - 0.25) < 0.05 for index in range(4))


def test_wrong_numbers_are_as_long_as_the_right_one(scenes):
    for scene in scenes[:50]:
        number = ask(scene, np.random.default_rng(1))[0]
        assert {len(choice) for choice in number.choices} == {len(scene.digits)}


@pytest.mark.parametrize(("digits", "total"), [((0, 0), "0"), ((9, 9), "18")])
def test_sums_at_both_ends_have_possible_choices(digits, total):
    question = ask(_scene(digits), np.random.default_rng(0))[-1]
    assert question.answer == total
    assert all(0 <= int(choice) <= 18 for choice in question.choices)


def test_the_same_rng_asks_the_same():
    first, second = (ask(_scene((4, 2)), np.random.default_rng(3)) for _ in range(2))
    assert first == second
