"""The mini world in the JSON layouts of the real corpora: pure functions from scenes to what the files hold.

Every file calls an image by the same name: ``{split}/{file_name}``, seen from the ``images`` folder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmail_kedro.mini.world.scene_questions import TASKS, Question
from gmail_kedro.mini.world.scenes import IMAGE_SIZE, Scene

FIRST_IMAGE_ID = 100_001  # far from imgid, so that taking one for the other cannot go unnoticed
LONG_CAPTION_PROMPT = "<image>\nDescribe this picture in detail."


@dataclass(frozen=True)
class Entry:
    """One scene with everything that is said about it.

    Attributes:
        position: Its place in the whole world, from 0.
        split: ``train``, ``val`` or ``test``.
        scene: The facts.
        captions: Five captions.
        long_caption: A caption of several sentences.
        questions: Questions with choices.
    """

    position: int
    split: str
    scene: Scene
    captions: tuple[str, ...]
    long_caption: str
    questions: tuple[Question, ...]

    @property
    def image_id(self) -> int:
        """The id of the image in all files (``cocoid`` in Karpathy's layout)."""
        return FIRST_IMAGE_ID + self.position

    @property
    def file_name(self) -> str:
        """The name of the JPEG, in COCO's manner."""
        return f"MINI_{self.split}_{self.image_id:012d}.jpg"

    @property
    def caption_ids(self) -> tuple[int, ...]:
        """The ids of the captions, running through the whole world."""
        first = self.position * len(self.captions)
        return tuple(range(first, first + len(self.captions)))


def karpathy(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns the content of a ``dataset_*.json`` in Karpathy's layout."""
    return {"dataset": "mini", "images": [_karpathy_image(entry) for entry in entries]}


def coco_captions(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns the content of a COCO ``captions_*.json``."""
    return {
        "info": {"description": "gmail_kedro mini world", "version": "1.0"},
        "licenses": [],
        "images": [
            {"id": entry.image_id, "file_name": entry.file_name, "height": IMAGE_SIZE, "width": IMAGE_SIZE}
            for entry in entries
        ],
        "annotations": [
            {"id": caption_id, "image_id": entry.image_id, "caption": caption}
            for entry in entries
            for caption_id, caption in zip(entry.caption_ids, entry.captions, strict=True)
        ],
    }


def long_captions(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Returns the content of a ShareGPT4V caption file."""
    return [
        {
            "id": str(entry.image_id),
            "image": f"{entry.split}/{entry.file_name}",
            "conversations": [
                {"from": "human", "value": LONG_CAPTION_PROMPT},
                {"from": "gpt", "value": entry.long_caption},
            ],
        }
        for entry in entries
    ]


def questions(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Returns the content of a ScienceQA-like ``problems.json``: problems by id, ``answer`` an index."""
    problems = (
        {
            "question": question.question,
            "choices": list(question.choices),
            "answer": question.answer_index,
            "hint": "",
            "image": f"{entry.split}/{entry.file_name}",
            "image_id": str(entry.image_id),
            "topic": question.topic,
            "split": entry.split,
        }
        for entry in entries
        for question in entry.questions
    )
    return {str(number): problem for number, problem in enumerate(problems, start=1)}


def classification(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns the zero-shot tasks with the class index of every image they apply to, by image id.

    A task that applies to no image of a very small world is left out.
    """
    tasks = {}
    for name, task in TASKS.items():
        labelled = ((str(entry.image_id), task.label(entry.scene)) for entry in entries)
        labels = {image_id: label for image_id, label in labelled if label is not None}
        if labels:
            tasks[name] = {"classes": list(task.classes), "templates": list(task.templates), "labels": labels}
    return {"tasks": tasks}


def _karpathy_image(entry: Entry) -> dict[str, Any]:
    return {
        "filepath": entry.split,
        "sentids": list(entry.caption_ids),
        "filename": entry.file_name,
        "imgid": entry.position,
        "split": entry.split,
        "sentences": [
            {
                "tokens": re.findall(r"[a-z0-9]+", caption.lower()),
                "raw": caption,
                "imgid": entry.position,
                "sentid": caption_id,
            }
            for caption_id, caption in zip(entry.caption_ids, entry.captions, strict=True)
        ],
        "cocoid": entry.image_id,
    }
