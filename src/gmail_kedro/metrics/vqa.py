"""Visual question answering: from what a model wrote to right or wrong, by the rules of ScienceQA and of MMMU.

ScienceQA (LLaVA's evaluation) takes a bare letter, a letter with a full stop and a space in front, or the sentence
"The answer is X." once; anything else is wrong. MMMU (its own evaluation) looks for a letter in brackets, then for one
between spaces, then, in an answer of more than five words, for a choice in words; the last mention counts, and an
answer without any is guessed. Its open questions are right if a number agrees to two decimals, or the true words occur
in what the model concludes. MMMU's guesses hang on a seed and the question's id, so their order changes nothing.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
GUESS_SEED = 42
_THE_ANSWER_IS = re.compile(r"The answer is ([A-Z])\.")
_EDGE_MARKS = (",", ".", "!", "?", ";", ":", "'")
_WORDS_THAT_CONCLUDE = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 12,500
    re.compile(r"-?\d+(?:\.\d+)?e[+-]?\d+"),  # 1.5e3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?!e[+-]?\d)(?![,\d])"),  # 3, .5 and 3.75
)
_FEWEST_WORDS_OF_A_SENTENCE = 6


@dataclass(frozen=True)
class VqaQuestion:
    """A question as its benchmark holds it."""

    choices: tuple[str, ...]  # the choices in words, in the order of their letters; empty for an open question
    answers: tuple[str, ...]  # the true answer: one letter of a choice, or the accepted answers of an open question


@dataclass(frozen=True)
class VqaResult:
    """Which questions were answered rightly."""

    question_ids: tuple[str, ...]  # the questions, in the order of `correct`
    correct: np.ndarray  # right or wrong, bool of shape [N]
    accuracy: float  # share of right answers over all questions (micro), in percent
    unparsed: tuple[str, ...]  # questions whose answer names no choice: wrong in ScienceQA, guessed in MMMU

    def scores(self) -> dict[str, float]:
        """Returns ``accuracy`` and ``unparsed_share``, both in percent."""
        return {"accuracy": self.accuracy, "unparsed_share": 100.0 * len(self.unparsed) / len(self.question_ids)}


def scienceqa_result(responses: Mapping[str, str], questions: Mapping[str, VqaQuestion]) -> VqaResult:
    """Scores answers to ScienceQA; with the questions that have an image it is IMG accuracy.

    Example:
        >>> scienceqa_result({"7": "B"}, {"7": VqaQuestion(("red", "blue"), ("B",))}).accuracy
        100.0

    Raises:
        ValueError: If the ids differ, there are no questions, or a question's answer is none of its letters.
    """
    _check(responses, questions, open_allowed=False)
    found = {id_: parse_scienceqa(responses[id_], len(question.choices)) for id_, question in questions.items()}
    correct = [found[id_] == question.answers[0] for id_, question in questions.items()]
    return _result(questions, correct, [id_ for id_, letter in found.items() if letter is None])


def mmmu_result(
    responses: Mapping[str, str | None], questions: Mapping[str, VqaQuestion], *, seed: int = GUESS_SEED
) -> VqaResult:
    """Scores answers to MMMU, choices and open questions together.

    Args:
        responses: What the model wrote, by question id; None where it was not asked (choices that are several
            images), which is guessed.
        questions: The questions, by id.
        seed: Seeds the guesses.

    Raises:
        ValueError: If the ids differ, there are no questions, a question's answer is none of its letters, or an open
            question has no answer or was not asked.
    """
    _check(responses, questions, open_allowed=True)
    correct, unparsed = [], []
    for id_, question in questions.items():
        response = responses[id_]
        if not question.choices:
            correct.append(is_open_answer_right(parse_open(response or ""), question.answers))
            continue
        letter = None if response is None else parse_choice(response, question.choices)
        if letter is None:
            unparsed.append(id_)
            letter = random.Random(f"{seed}/{id_}").choice(LETTERS[: len(question.choices)])
        correct.append(letter == question.answers[0])
    return _result(questions, correct, unparsed)


def parse_scienceqa(response: str, choice_count: int) -> str | None:
    """Returns the letter a ScienceQA answer names, or None; letters beyond the choices are no answer."""
    text = response.replace("\n", ". ")
    letters = LETTERS[:choice_count]
    if text.strip() in letters:
        return text.strip()
    if text[:1] in letters and text[1:3] == ". ":
        return text[0]
    named = _THE_ANSWER_IS.findall(text)
    return named[0] if len(named) == 1 and named[0] in letters else None


def parse_choice(response: str, choices: Sequence[str]) -> str | None:
    """Returns the letter that an answer to a multiple-choice question of MMMU names, or None."""
    for mark in _EDGE_MARKS:  # one after the other, as the published evaluation strips them
        response = response.strip(mark)
    text = f" {response} "
    words = {letter: choice.lower() for letter, choice in zip(LETTERS, choices, strict=False)}
    is_sentence = len(text.split()) >= _FEWEST_WORDS_OF_A_SENTENCE
    for looked_in, signs in (
        (text, {letter: f"({letter})" for letter in words}),
        (text, {letter: f" {letter} " for letter in words}),
        (text.lower(), words if is_sentence else {}),
    ):
        places = {letter: looked_in.rfind(sign) for letter, sign in signs.items() if sign and sign in looked_in}
        if places:  # the first kind of sign that is there decides, and of it the last mention
            return max(places, key=lambda letter: places[letter])
    return None


def parse_open(response: str) -> list[str | float]:
    """Returns what an answer to an open question of MMMU may mean: its conclusions, and every number in them."""
    lines = response.strip().strip(".").lower().split("\n")
    conclusions = []
    for position, line in enumerate(lines):
        signs = (*_WORDS_THAT_CONCLUDE, "=") if position == len(lines) - 1 else _WORDS_THAT_CONCLUDE
        tails = [line.split(sign)[-1].strip() for sign in signs if sign in line]
        shortest = min(filter(None, tails), key=len, default="")
        if shortest and shortest not in _EDGE_MARKS:
            conclusions.append(shortest)
    conclusions = conclusions or ["\n".join(lines)]
    numbers = [number for text in conclusions for kind in _NUMBERS for number in kind.findall(text)]
    meant = [form for text in (*conclusions, *numbers) for form in _normal_forms(text)]
    return list(dict.fromkeys(meant))


def is_open_answer_right(meant: Sequence[str | float], answers: Sequence[str]) -> bool:
    """Says whether a true answer is among what was meant: numbers equal to two decimals, words contained."""
    accepted = [form for answer in answers for form in _normal_forms(answer)]
    true_words = [form for form in accepted if isinstance(form, str)]
    return any(
        any(words in form for words in true_words) if isinstance(form, str) else form in accepted for form in meant
    )


def _normal_forms(text: str) -> list[str | float]:
    """Returns a number rounded to two decimals, or lower-case words; one character alone must have a space beside."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def _check(responses: Mapping[str, str | None], questions: Mapping[str, VqaQuestion], *, open_allowed: bool) -> None:
    if not questions:
        raise ValueError("There must be at least one question. Got none.")
    for kind, ids in (
        ("questions have no response", [id_ for id_ in questions if id_ not in responses]),
        ("responses belong to no question", [id_ for id_ in responses if id_ not in questions]),
    ):
        if ids:
            raise ValueError(f"Responses and questions must have the same ids. {len(ids)} {kind}: {ids[:3]}.")
    for id_, question in questions.items():
        letters = LETTERS[: len(question.choices)]
        if question.choices and (len(question.answers) != 1 or question.answers[0] not in letters):
            raise ValueError(
                f"The answer to question {id_!r} must be one of its letters, {letters[0]} to {letters[-1]}. "
                f"Got {list(question.answers)} instead."
            )
        if not question.choices and (not open_allowed or not question.answers or responses[id_] is None):
            raise ValueError(
                f"Question {id_!r} has no choices: an open question must have accepted answers and a response, and "
                f"ScienceQA has none of that kind. Got the answers {list(question.answers)}."
            )


def _result(questions: Mapping[str, VqaQuestion], correct: Sequence[bool], unparsed: Sequence[str]) -> VqaResult:
    right = np.asarray(correct, dtype=bool)
    return VqaResult(tuple(questions), right, 100.0 * float(right.mean()), tuple(unparsed))
