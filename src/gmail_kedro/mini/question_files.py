"""Writes questions in the files of ScienceQA and of MMMU, so that the real readers read the mini world's.

A folder is written beside its place and renamed, so a half-written one is never read.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from gmail_kedro.interfaces import Question

PNG = b"\x89PNG"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MMMU_IMAGES = tuple(f"image_{number}" for number in range(1, 8))


def write_scienceqa(folder: Path, questions: Sequence[Question], *, split: str) -> None:
    """Writes ``problems.json``, ``pid_splits.json`` and ``images/split/id/image.png``, in place of an older folder.

    Args:
        folder: Where they go.
        questions: Questions with options.
        split: train, val or test.

    Raises:
        ValueError: If a question is open: ScienceQA has none.
    """
    unfinished = _unfinished(folder)
    problems: dict[str, Any] = {}
    for question in questions:
        if not question.options:
            raise ValueError(f"The question {question.question_id!r} is open; ScienceQA has none. Use write_mmmu.")
        image = None
        if question.image is not None:
            image = "image.png" if question.image.startswith(PNG) else "image.jpg"
            path = unfinished / "images" / split / question.question_id / image
            path.parent.mkdir(parents=True)
            path.write_bytes(question.image)
        problems[question.question_id] = {
            "question": question.text,
            "choices": list(question.options),
            "answer": LETTERS.index(question.answers[0]),
            "hint": question.context,
            "image": image,
            "subject": question.subject,
            "split": split,
        }
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    _write_json(unfinished / "problems.json", problems)
    _write_json(unfinished / "pid_splits.json", splits | {split: list(problems)})
    _put_in_place(unfinished, folder)


def write_mmmu(folder: Path, questions: Sequence[Question], *, split: str) -> None:
    """Writes ``Subject/split-00000-of-00001.parquet`` for each subject, in place of an older folder.

    Args:
        folder: Where they go.
        questions: Questions with options and open ones; their subjects become folders.
        split: dev or validation.
    """
    import pyarrow as pa
    from pyarrow import parquet

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = ("id", "question", "options", "answer", "question_type", "subfield")
    schema = pa.schema([(name, pa.string()) for name in texts] + [(name, picture) for name in MMMU_IMAGES])
    unfinished = _unfinished(folder)
    for subject in dict.fromkeys(question.subject for question in questions):
        rows = [_mmmu_row(question) for question in questions if question.subject == subject]
        (unfinished / subject).mkdir()
        path = unfinished / subject / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pa.Table.from_pylist(rows, schema), path)
    _put_in_place(unfinished, folder)


def _mmmu_row(question: Question) -> dict[str, Any]:
    image = {"bytes": question.image, "path": f"{question.question_id}_1.png"}
    return {
        "id": question.question_id,
        "question": question.text,
        "options": str(list(question.options)),
        "answer": question.answers[0] if len(question.answers) == 1 else str(list(question.answers)),
        "question_type": "multiple-choice" if question.options else "open",
        "subfield": question.subject,
        "image_1": None if question.image is None else image,
    }


def _unfinished(folder: Path) -> Path:
    folder = Path(folder).absolute()
    unfinished = folder.with_name(f".{folder.name}.unfinished-{uuid4().hex[:8]}")
    unfinished.mkdir(parents=True)
    return unfinished


def _put_in_place(unfinished: Path, folder: Path) -> None:
    folder = Path(folder).absolute()
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
