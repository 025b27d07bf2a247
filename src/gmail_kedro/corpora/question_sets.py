"""Reads ScienceQA and MMMU as their authors publish them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gmail_kedro.corpora.caption_text import read_written_list, without_image_marks
from gmail_kedro.corpora.find_files import require_file, require_folder
from gmail_kedro.corpora.text_files import read_json
from gmail_kedro.interfaces import IMAGE_MARK, Question

SCIENCEQA_HOME = "scienceqa.github.io (problems.json, pid_splits.json and the images of each split)"
MMMU_HOME = "the hub's MMMU/MMMU (a folder of Parquet files for each of 30 subjects)"
# The published numbers: a benchmark without some of its questions gives another score.
SCIENCEQA_COUNTS = {"train": 12_726, "val": 4_241, "test": 4_241}
SCIENCEQA_IMAGE_TEST_COUNT = 2_017
MMMU_COUNTS = {"dev": 150, "validation": 900}
MMMU_IMAGE_COUNT = 7
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_scienceqa(
    folder: Path, *, split: str = "test", images_only: bool = True, check_counts: bool = True
) -> list[Question]:
    """Returns the questions of a split of ScienceQA, in the order of ``pid_splits.json``, without ``<image>`` marks.

    Args:
        folder: Holds ``problems.json``, ``pid_splits.json`` and ``images/split/id/image.png``.
        split: train, val or test.
        images_only: Leave out the questions without an image: the IMG part that vision-language models report.
        check_counts: Hold it to the published number of questions.
    """
    folder = Path(folder)
    problems = read_json(require_file(folder / "problems.json", name="scienceqa", home=SCIENCEQA_HOME), what="problems")
    splits = read_json(require_file(folder / "pid_splits.json", name="scienceqa", home=SCIENCEQA_HOME), what="splits")
    if split not in splits:
        raise ValueError(f"The split {split!r} is not in '{folder / 'pid_splits.json'}'. It has {sorted(splits)}.")
    if check_counts:
        _check_count("ScienceQA", split, SCIENCEQA_COUNTS.get(split), len(splits[split]))
    questions = []
    for question_id in splits[split]:
        problem = problems.get(question_id)
        if not isinstance(problem, dict):
            raise ValueError(
                f"The problem {question_id!r} of the split {split!r} is not in problems.json. Fetch both anew."
            )
        if problem.get("image") or not images_only:
            questions.append(_scienceqa_question(folder, split, str(question_id), problem))
    if check_counts and images_only and split == "test":
        _check_count("ScienceQA with images", split, SCIENCEQA_IMAGE_TEST_COUNT, len(questions))
    return questions


def read_mmmu(folder: Path, *, split: str = "validation", check_counts: bool = True) -> list[Question]:
    """Returns the questions of a split of MMMU, subject by subject; ``<image 1>`` stays in their words.

    Args:
        folder: Holds ``Subject/split-*.parquet``: ``id``, ``question``, ``options`` (a list, written out),
            ``answer``, ``question_type`` and ``image_1`` to ``image_7``.
        split: dev or validation; the answers of test are not public.
        check_counts: Hold it to the published number of questions.
    """
    folder = require_folder(folder, name="mmmu", home=MMMU_HOME)
    files = sorted(folder.glob(f"*/{split}-*.parquet"))
    if not files:
        require_file(folder / f"Subject/{split}-00000-of-00001.parquet", name="mmmu", home=MMMU_HOME)
    questions = [question for file in files for question in _mmmu_file(file)]
    repeated = len(questions) - len({question.question_id for question in questions})
    if repeated:
        raise ValueError(f"{repeated} questions of MMMU in '{folder}' repeat an id. Is a subject there twice?")
    if check_counts:
        _check_count("MMMU", split, MMMU_COUNTS.get(split), len(questions))
    return questions


def _scienceqa_question(folder: Path, split: str, question_id: str, problem: Mapping[str, Any]) -> Question:
    where = f"Problem {question_id!r} of '{folder / 'problems.json'}'"
    asked = {key: problem.get(key) for key in ("question", "choices", "answer")}
    choices: Any = asked["choices"]
    answer: Any = asked["answer"]
    text: Any = asked["question"]
    is_usable = isinstance(choices, list) and isinstance(answer, int) and isinstance(text, str)
    if not is_usable or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise ValueError(
            f"{where} must have a question, choices, and an answer that numbers one of them. Got {asked!r:.160} "
            "instead. Fetch the file anew."
        )
    options = tuple(map(str, choices))
    if any(IMAGE_MARK in option for option in options):
        # Several images in one prompt are beyond the models here; of the published questions none is so.
        raise ValueError(f"{where} has images among its choices {choices!r:.160}. Take it out of pid_splits.json.")
    image = None
    if problem.get("image"):
        path = folder / "images" / split / question_id / str(problem["image"])
        if not path.is_file():
            raise FileNotFoundError(f"{where}: its image '{path}' does not exist. It comes from: {SCIENCEQA_HOME}.")
        image = path.read_bytes()
    return Question(
        question_id=question_id,
        image=image,
        text=without_image_marks(text),
        options=options,
        answers=(LETTERS[answer],),
        context=without_image_marks(problem.get("hint") or ""),
        subject=problem.get("subject") or "",
    )


def _mmmu_file(file: Path) -> Iterator[Question]:
    from pyarrow import ArrowInvalid, parquet

    try:
        rows = parquet.read_table(file).to_pylist()
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"The file '{file}' of MMMU is damaged: {error} Fetch it again from {MMMU_HOME}.") from error
    for number, row in enumerate(rows):
        try:
            yield _mmmu_question(row, file.parent.name)
        except (KeyError, ValueError, SyntaxError, TypeError, IndexError) as error:
            raise ValueError(
                f"Row {number} of '{file}' ({row.get('id')!r}) is no question of MMMU "
                f"({type(error).__name__}: {error}). Fetch the file again from {MMMU_HOME}."
            ) from error


def _mmmu_question(row: Mapping[str, Any], subject: str) -> Question:
    # MMMU's options are lists written out as Python's, and so are the answers of some open questions.
    options, written = _listed(row["options"] or "[]"), row["answer"] or ""
    if options is None:
        raise ValueError(f"the options {row['options']!r} are no list of texts, written out")
    if row["question_type"] == "multiple-choice":
        answers: tuple[str, ...] = (written,)
        if len(written) != 1 or written not in LETTERS[: len(options)]:
            raise ValueError(f"the answer {written!r} is no letter of its {len(options)} options")
    else:
        options, answers = (), _listed(written) or (written,)
        if not all(map(str.strip, answers)):  # nothing is a part of every answer
            raise ValueError(f"the open question has the blank answer {written!r}")
    # Of several images the first, as LLaVA reads one.
    images = [row.get(f"image_{number}") for number in range(1, MMMU_IMAGE_COUNT + 1)]
    return Question(
        question_id=row["id"],
        image=next((image["bytes"] for image in images if image), None),
        text=without_image_marks(row["question"]),
        options=options,
        answers=answers,
        context="",
        subject=subject,
    )


def _listed(written: str) -> tuple[str, ...] | None:
    """Returns the texts of a list that is written out; None where it is none: [Ne]3s1 and [1, 2] are words."""
    listed = read_written_list(written)
    return None if listed is None or None in listed else tuple(map(str, listed))


def _check_count(name: str, split: str, expected: int | None, found: int) -> None:
    if expected is not None and found != expected:
        raise ValueError(
            f"The split {split!r} of {name} must have {expected} questions. Got {found} instead. Complete the files, "
            "or, for a part of them, set check_counts: false in the catalog entry."
        )
