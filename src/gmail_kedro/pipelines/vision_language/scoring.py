"""Scores of captions and answers, with intervals and with what guessing would reach."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.benchmark import item_rows
from gmail_kedro.interfaces import Question
from gmail_kedro.metrics.captioning import MetricUnavailableError, caption_scores
from gmail_kedro.metrics.statistics import bootstrap_interval
from gmail_kedro.metrics.vqa import LETTERS, VqaQuestion, VqaResult
from gmail_kedro.metrics.word_movers import score_result
from gmail_kedro.params import EvaluationParams


def score_captions(
    captions: Sequence[Mapping[str, str]],
    rows: pd.DataFrame,
    training_captions: Sequence[str],
    params: EvaluationParams,
    *,
    feature_store: Path,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Returns caption scores against all references; means over images with their intervals, and image by image.

    Args:
        captions: ``image_id`` and ``text`` of each image.
        rows: The references: ``image_id`` and ``caption``.
        training_captions: Of the corpus, for word vectors of its own.
        params: Tokenizer, METEOR, word vectors, and the resampling.
        feature_store: Where word vectors are kept.
    """
    references = {str(key): list(group) for key, group in rows.groupby("image_id", sort=False)["caption"]}
    result = caption_scores(
        {row["image_id"]: row["text"] for row in captions},
        references,
        tokenizer=params.caption_tokenizer,
        with_meteor=params.meteor,
    )
    per_image, unavailable = dict(result.per_image), dict(result.unavailable)
    try:
        per_image["wmd"] = score_result(
            result, training_captions, word_vectors=params.word_vectors, folder=feature_store
        )
    except MetricUnavailableError as error:
        unavailable["wmd"] = str(error)
    intervals = {
        name: asdict(bootstrap_interval(values, count=params.bootstrap_count, seed=params.seed))
        for name, values in per_image.items()
    }
    added = {"wmd": float(per_image["wmd"].mean())} if "wmd" in per_image else {}
    scores = {
        "scores": result.scores | added,
        "intervals": intervals,
        "unavailable": unavailable,
        "tokenizer": result.tokenizer,
    }
    return scores, pd.concat([item_rows(result.image_ids, name, values) for name, values in per_image.items()])


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
    result = judge({row["question_id"]: row["text"] for row in answers}, {q.question_id: _held(q) for q in questions})
    correct = result.correct.astype(float) * 100
    subjects = np.array([question.subject for question in questions])
    chance = _chance(questions)
    scores = {
        "scores": result.scores() | {"chance": float(chance.mean())},
        "intervals": {"accuracy": asdict(bootstrap_interval(correct, count=params.bootstrap_count, seed=params.seed))},
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
        subject: Counter(q.answer for q in questions if q.subject == subject and not q.options)
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


def _held(question: Question) -> VqaQuestion:
    if not question.options:
        return VqaQuestion((), (question.answer, *question.other_answers))
    return VqaQuestion(question.options, (LETTERS[question.options.index(question.answer)],))
