"""Scores of answers, with intervals and with what guessing would reach."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.evaluation.benchmark import interval_of, item_rows
from gmail_kedro.interfaces import Question
from gmail_kedro.metrics.vqa import VqaQuestion, VqaResult
from gmail_kedro.params.evaluation import EvaluationParams


def score_questions(
    answers: Sequence[Mapping[str, Any]],
    questions: Sequence[Question],
    judge: Callable[[Mapping[str, Any], Mapping[str, VqaQuestion]], VqaResult],
    params: EvaluationParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Returns accuracy over all questions and by subject, its interval and the chance level; and what was right.

    Args:
        answers: ``question_id`` and ``text`` of each question.
        questions: The benchmark.
        judge: Its rules.
        params: The resampling.
    """
    held = {question.question_id: VqaQuestion(question.options, question.answers) for question in questions}
    result = judge({row["question_id"]: row["text"] for row in answers}, held)
    correct = result.correct.astype(float) * 100
    subjects = np.array([question.subject for question in questions])
    chance = _chance(questions)
    scores = {
        "scores": result.scores() | {"chance": float(chance.mean())},
        "intervals": {"accuracy": interval_of(correct, params)},
        "by_subject": {
            str(subject): {
                "accuracy": float(correct[subjects == subject].mean()),
                "chance": float(chance[subjects == subject].mean()),
                "question_count": int((subjects == subject).sum()),
            }
            for subject in dict.fromkeys(subjects)
        },
        "question_count": len(questions),
        "image_count": sum(question.image is not None for question in questions),
    }
    return scores, item_rows([question.question_id for question in questions], "accuracy", correct)


def _chance(questions: Sequence[Question]) -> np.ndarray:
    """Returns what one gets right without looking, in percent, of shape [N].

    With options that is one in their number; for an open question, the share of its subject's commonest answer.
    """
    answers = {
        subject: Counter(q.answers[0] for q in questions if q.subject == subject and not q.options)
        for subject in {q.subject for q in questions}
    }
    return np.array(
        [
            100 / len(q.options)
            if q.options
            else 100 * answers[q.subject].most_common(1)[0][1] / answers[q.subject].total()
            for q in questions
        ]
    )
