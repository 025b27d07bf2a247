"""The benchmarks' questions, word for word as their evaluation code asks them."""

from dataclasses import replace

import pytest

from gmail_kedro.interfaces import Question
from gmail_kedro.models.vision_language.prompts import mmmu_prompt, right_answer, scienceqa_prompt

QUESTION = Question("7", None, "What is shown?", ("a cat", "a dog"), ("B",), "", "biology")


def test_scienceqa_is_asked_in_its_format():
    assert scienceqa_prompt(QUESTION) == (
        "Context: N/A\nQuestion: What is shown?\nOptions: (A) a cat (B) a dog\n"
        "Answer with the option's letter from the given choices directly."
    )
    told = replace(QUESTION, context="Look at\nthe picture.")
    assert scienceqa_prompt(told).startswith("Context: Look at the picture.\nQuestion:")


def test_mmmu_is_asked_with_lettered_lines_or_for_a_short_answer():
    assert mmmu_prompt(QUESTION) == (
        "What is shown?\n\n(A) a cat\n(B) a dog\n\nAnswer with the option's letter from the given choices directly."
    )
    assert mmmu_prompt(replace(QUESTION, options=())) == (
        "What is shown?\n\nAnswer the question using a single word or phrase."
    )


def test_the_right_answer_is_what_was_asked_for():
    assert right_answer(QUESTION) == "B"
    assert right_answer(replace(QUESTION, options=(), answers=("a dog", "dog"))) == "a dog"


def test_of_options_with_equal_words_the_right_letter_is_taught():
    assert right_answer(replace(QUESTION, options=("four", "five", "four", "six"), answers=("C",))) == "C"


def test_questions_that_cannot_be_asked_are_refused():
    with pytest.raises(ValueError, match="'7' has no options; ScienceQA's format needs them"):
        scienceqa_prompt(replace(QUESTION, options=()))
    for answer in ("C", "a dog", "AB", ""):
        with pytest.raises(
            ValueError, match=f"'{answer}' of the question '7' must be the letter of one of its options"
        ):
            right_answer(replace(QUESTION, answers=(answer,)))
    with pytest.raises(ValueError, match="has 11 options; at most 10"):
        mmmu_prompt(replace(QUESTION, options=tuple("abcdefghijk")))
