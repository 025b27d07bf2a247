"""Answers are held against the letter that the benchmark names, also where two choices have the same words."""

import pytest

from gmail_kedro.interfaces import Question
from gmail_kedro.metrics.vqa import mmmu_result, scienceqa_result
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.pipelines.vision_language.answering import score_questions

EQUAL = Question("1", None, "2 + 2?", ("four", "five", "four", "six"), ("C",), "", "sums")
PLAIN = Question("2", None, "The sky?", ("red", "blue"), ("B",), "", "colors")
OPEN = Question("3", None, "What is it?", (), ("salt", "rock salt"), "", "things")
PARAMS = EvaluationParams(
    split="test",
    image_count=None,
    beam_size=1,
    caption_tokenizer="simple",
    meteor=False,
    word_vectors=None,
    scene_tuples=False,
    retrieval_protocol=None,
    class_sets=None,
    linear_probe=False,
    bootstrap_count=10,
    seed=0,
)


def _score(judge, **answers):
    rows = [{"question_id": key[1:], "text": text} for key, text in answers.items()]
    asked = [question for question in (EQUAL, PLAIN, OPEN) if f"_{question.question_id}" in answers]
    return score_questions(rows, asked, judge, PARAMS)[0]["scores"]["accuracy"]


@pytest.mark.parametrize("judge", [scienceqa_result, mmmu_result])
@pytest.mark.parametrize(("said", "accuracy"), [("C", 100.0), ("A", 50.0), ("B", 50.0)])
def test_the_letter_counts_and_not_the_words(judge, said, accuracy):
    assert _score(judge, _1=said, _2="B") == accuracy


@pytest.mark.parametrize(("said", "accuracy"), [("salt", 100.0), ("It is rock salt.", 100.0), ("sugar", 0.0)])
def test_every_accepted_answer_of_an_open_question_counts(said, accuracy):
    assert _score(mmmu_result, _3=said) == accuracy
