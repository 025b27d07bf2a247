"""Questions in the files of ScienceQA and of MMMU, so that the real readers read the mini world's."""

import io
from collections.abc import Sequence
from typing import Any

from gmail_kedro.interfaces import Question
from gmail_kedro.mini.world.world_files import encode_json

PNG = b"\x89PNG"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MMMU_IMAGES = tuple(f"image_{number}" for number in range(1, 8))


def scienceqa_files(questions: Sequence[Question], *, split: str) -> dict[str, bytes]:
    """Returns ``problems.json``, ``pid_splits.json`` and ``images/split/id/image.png`` by their paths.

    Raises:
        ValueError: If a question is open: ScienceQA has none.
    """
    files: dict[str, bytes] = {}
    problems: dict[str, Any] = {}
    for question in questions:
        if not question.options:
            raise ValueError(f"The question {question.question_id!r} is open; ScienceQA has none. Use mmmu_files.")
        name = None
        if question.image is not None:
            name = "image.png" if question.image.startswith(PNG) else "image.jpg"
            files[f"images/{split}/{question.question_id}/{name}"] = question.image
        problems[question.question_id] = {
            "question": question.text,
            "choices": list(question.options),
            "answer": LETTERS.index(question.answers[0]),
            "hint": question.context,
            "image": name,
            "subject": question.subject,
            "split": split,
        }
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    files["problems.json"] = encode_json(problems)
    files["pid_splits.json"] = encode_json(splits | {split: list(problems)})
    return files


def mmmu_files(questions: Sequence[Question], *, split: str) -> dict[str, bytes]:
    """Returns ``Subject/split-00000-of-00001.parquet`` for each subject, by its path."""
    import pyarrow as pa
    from pyarrow import parquet

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = ("id", "question", "options", "answer", "question_type", "subfield")
    schema = pa.schema([(name, pa.string()) for name in texts] + [(name, image) for name in MMMU_IMAGES])
    files = {}
    for subject in dict.fromkeys(question.subject for question in questions):
        rows = [_mmmu_row(question) for question in questions if question.subject == subject]
        stream = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(rows, schema), stream)
        files[f"{subject}/{split}-00000-of-00001.parquet"] = stream.getvalue()
    return files


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
