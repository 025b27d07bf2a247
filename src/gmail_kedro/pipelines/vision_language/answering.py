"""A vision-language model at its questions: real images through the real route, answers, and what they score."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gmail_kedro.evaluation.benchmark import interval_of, item_rows
from gmail_kedro.interfaces import ImageSource, Question
from gmail_kedro.metrics.vqa import VqaQuestion, VqaResult
from gmail_kedro.models.vision_language.chat import IMAGE
from gmail_kedro.models.vision_language.vision_language_model import VisionLanguageModel
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.vision_language import VisionLanguageParams
from gmail_kedro.pipelines.vision_language.model_and_towers import open_tokens


class QuestionImages:
    """The images of questions, by question id (an ``ImageSource``)."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._images = {question.question_id: question.image for question in questions}

    def read(self, key: str) -> bytes:
        """Returns the encoded image.

        Raises:
            FileNotFoundError: If the question is not there or has none.
        """
        image = self._images.get(key)
        if image is None:
            raise FileNotFoundError(f"The question {key!r} has no image. Ask it without one.")
        return image


@dataclass(frozen=True)
class Answering:
    """A model that answers.

    Attributes:
        model: In eval mode.
        tower: The vision tower of the real route.
        params: Longest answer, batch size, and what captions are asked for with.
    """

    model: VisionLanguageModel
    tower: VisionTower
    params: VisionLanguageParams

    def caption(self, source: ImageSource, image_ids: Sequence[str]) -> list[str]:
        """Returns a caption of each real image."""
        return self._answer(source, image_ids, [self.params.caption_prompt] * len(image_ids), what="Captioning")

    def answer(self, questions: Sequence[Question], prompts: Sequence[str]) -> list[str]:
        """Returns the answers to questions about real images, or to questions that all have none."""
        if questions and questions[0].image is None:
            # The tower has nothing to do: these prompts go to the language model alone.
            size = self.params.answer_batch_size
            starts = range(0, len(prompts), size)
            parts = [self._write(None, prompts[start : start + size]) for start in starts]
            return [text for part in parts for text in part]
        ids = [question.question_id for question in questions]
        return self._answer(QuestionImages(questions), ids, prompts, what="Answering")

    def _answer(self, source: ImageSource, keys: Sequence[str], prompts: Sequence[str], *, what: str) -> list[str]:
        # Each image is looked at once, so nothing is kept. The origin is real whatever the source: no benchmark has
        # generated images.
        tokens = open_tokens(self.model, self.tower, source, list(keys), origin="real", cache_gib=0)
        size = self.params.answer_batch_size
        texts: list[str] = []
        for start in tqdm(range(0, len(keys), size), desc=what, disable=None):
            rows = range(start, min(start + size, len(keys)))
            # [B, P, W] tokens of the images, and as many prompts
            texts += self._write(tokens[rows], prompts[start : start + size])
        return texts

    def _write(self, tokens: Any, prompts: Sequence[str]) -> list[str]:
        return self.model.write(tokens, prompts, max_tokens=self.params.max_tokens)


def ask_all(
    answering: Answering, questions: Sequence[Question], prompt_of: Callable[[Question], str]
) -> list[dict[str, Any]]:
    """Returns the answers in the order of the questions: ``question_id``, ``prompt`` and ``text``.

    A question whose options are images cannot be asked: its text is None. ``prompt_of`` has the benchmark's words.
    """
    # MMMU puts an option that is an image into the text as a placeholder.
    askable = [question for question in questions if not any(IMAGE[:-1] in option for option in question.options)]
    texts: dict[str, str] = {}
    for has_image in (True, False):  # a batch has images throughout or none
        part = [question for question in askable if (question.image is not None) == has_image]
        written = answering.answer(part, [prompt_of(question) for question in part])
        texts |= {question.question_id: text for question, text in zip(part, written, strict=True)}
    # In the order of the questions again, whichever part they were in.
    return [
        {"question_id": question.question_id, "prompt": prompt_of(question), "text": texts.get(question.question_id)}
        for question in questions
    ]


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
    correct = result.correct.astype(float) * 100  # [N], in percent, so that its mean is the accuracy
    subjects = np.array([question.subject for question in questions])
    # Beside every accuracy: with two options half is right without looking, and subjects differ in their options.
    chance = _chance(questions)  # [N]
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
