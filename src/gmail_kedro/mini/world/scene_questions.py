"""What can be asked about a scene: zero-shot classification tasks, and questions with four choices.

Everything is derived from the facts of the scene, so every label and every answer is true.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from gmail_kedro.mini.world.caption_grammar import PATTERN_WORDS, POSITION_PHRASES, RELATION_PHRASES
from gmail_kedro.mini.world.scenes import INKS, PAPERS, PATTERNS, SINGLE_POSITIONS, SIZES, Scene

CHOICE_COUNT = 4
RELATIONS = ("rising", "falling", "double")
NEVER_DRAWN_PATTERN = "dotted"
LARGEST_SUM = 18


@dataclass(frozen=True)
class SceneTask:
    """A zero-shot classification task over scenes.

    Attributes:
        classes: The class names, in the order of the labels.
        templates: Prompts with one ``{}`` for the class name, in words the mini CLIP has read.
        label: Maps a scene to its class index, or to None where the task does not apply.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    label: Callable[[Scene], int | None]


@dataclass(frozen=True)
class Question:
    """A question about one scene.

    Attributes:
        topic: What it asks about, such as ``ink``.
        question: The question in words.
        choices: Four different answers.
        answer_index: Position of the true one in ``choices``.
    """

    topic: str
    question: str
    choices: tuple[str, ...]
    answer_index: int

    @property
    def answer(self) -> str:
        """The true answer in words."""
        return self.choices[self.answer_index]


def ask(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Returns one question of each topic that applies, its choices in random order.

    The topics are number, ink, paper, size, position, pattern and comparison, and the sum of the digits
    where there are two. With four choices each, guessing is right one time in four.
    """
    questions = [
        _compose("number", "What number is written?", scene.number, _other_numbers(scene), rng),
        _compose("ink", "What color is the ink?", scene.ink, tuple(INKS), rng),
        _compose("paper", "What color is the paper?", scene.paper, tuple(PAPERS), rng),
        _compose("size", "How many digits are there, and how large?", _size_phrase(scene), _size_phrases(), rng),
        _compose("position", "Where on the page is the number?", _place(scene.position), _places(), rng),
        _compose("pattern", "What is the pattern of the paper?", scene.pattern, (*PATTERNS, NEVER_DRAWN_PATTERN), rng),
        _compose("comparison", "How do the digits compare?", _comparison(scene), _comparisons(), rng),
    ]
    if len(scene.digits) == 2:
        total = sum(scene.digits)
        near = [value for value in range(LARGEST_SUM + 1) if abs(value - total) <= CHOICE_COUNT]
        sums = tuple(str(value) for value in near)
        questions.append(_compose("sum", "What is the sum of the two digits?", str(total), sums, rng))
    return questions


def _compose(topic: str, question: str, answer: str, options: Sequence[str], rng: np.random.Generator) -> Question:
    """Returns a question whose choices are the answer and three other options."""
    wrong = [option for option in options if option != answer]
    drawn = rng.choice(len(wrong), size=CHOICE_COUNT - 1, replace=False)
    choices = [answer, *(wrong[index] for index in drawn)]
    order = rng.permutation(CHOICE_COUNT)
    shuffled = tuple(choices[index] for index in order)
    return Question(topic=topic, question=question, choices=shuffled, answer_index=shuffled.index(answer))


def _other_numbers(scene: Scene) -> tuple[str, ...]:
    """Returns the numbers easily taken for this one: as long, and different in one digit or in their order."""
    if len(scene.digits) == 1:
        return tuple(str(digit) for digit in range(10))
    first, second = scene.digits
    close = [f"{first}{digit}" for digit in range(10)] + [f"{digit}{second}" for digit in range(10)]
    return tuple(dict.fromkeys([*close, f"{second}{first}"]))


def _size_phrase(scene: Scene) -> str:
    return f"one {scene.size} digit" if len(scene.digits) == 1 else f"two {scene.size} digits"


def _size_phrases() -> tuple[str, ...]:
    return tuple(phrase for size in SIZES for phrase in (f"one {size} digit", f"two {size} digits"))


def _place(position: str) -> str:
    return POSITION_PHRASES[position][0]


def _places() -> tuple[str, ...]:
    return tuple(_place(position) for position in SINGLE_POSITIONS)


def _comparison(scene: Scene) -> str:
    return "there is only one digit" if scene.relation == "single" else RELATION_PHRASES[scene.relation][0]


def _comparisons() -> tuple[str, ...]:
    return (*(RELATION_PHRASES[relation][0] for relation in RELATIONS), "there is only one digit")


# Web texts never say how many digits there are or how they compare; captions do ("the digit 7", "both digits are
# the same"). A CLIP that has read only web texts guesses in these two tasks: they show what fine-tuning adds.
TASKS: Mapping[str, SceneTask] = MappingProxyType(
    {
        "digit": SceneTask(
            classes=tuple("0123456789"),
            templates=("{}", "handwritten {}", "digit {}"),
            label=lambda scene: scene.digits[0] if len(scene.digits) == 1 else None,
        ),
        "ink": SceneTask(
            classes=tuple(INKS),
            templates=("{}", "{} ink", "handwritten {} ink"),
            label=lambda scene: tuple(INKS).index(scene.ink),
        ),
        "paper": SceneTask(
            classes=tuple(PAPERS),
            templates=("{} paper", "{} sheet", "{} page"),
            label=lambda scene: tuple(PAPERS).index(scene.paper),
        ),
        "pattern": SceneTask(
            classes=tuple(PATTERN_WORDS[pattern][0] for pattern in PATTERNS),
            templates=("{}", "{} paper"),
            label=lambda scene: PATTERNS.index(scene.pattern),
        ),
        "size": SceneTask(
            classes=SIZES,
            templates=("{}", "{} handwriting"),
            label=lambda scene: SIZES.index(scene.size),
        ),
        "position": SceneTask(
            classes=SINGLE_POSITIONS,
            templates=("{}", "handwritten {}"),
            label=lambda scene: SINGLE_POSITIONS.index(scene.position),
        ),
        "count": SceneTask(
            classes=("digit", "number"),
            templates=("handwritten {}", "the {}"),
            label=lambda scene: len(scene.digits) - 1,
        ),
        "relation": SceneTask(
            classes=tuple(RELATION_PHRASES[relation][0] for relation in RELATIONS),
            templates=("{}", "a number where {}"),
            label=lambda scene: None if scene.relation == "single" else RELATIONS.index(scene.relation),
        ),
    }
)
