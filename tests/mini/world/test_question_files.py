"""The mini world's questions, in the files of the benchmarks, come back through the real readers."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.corpora.question_sets import read_mmmu, read_scienceqa
from gmail_kedro.interfaces import Question
from gmail_kedro.mini.world.question_files import mmmu_files, scienceqa_files
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import render_scene, sample_scene
from gmail_kedro.mini.world.written_folder import write_folder


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """Every topic once a scene, for three scenes."""
    scans, drawn = load_scans("test"), []
    for index in range(3):
        rng = np.random.default_rng(index)
        scene = sample_scene(rng, scans, pair_fraction=0.5)
        stream = io.BytesIO()
        Image.fromarray(render_scene(scene, scans)).save(stream, "PNG")
        for asked in ask(scene, rng):
            drawn.append(
                Question(
                    question_id=f"{asked.topic}_{index}", image=stream.getvalue(), text=asked.question,
                    options=asked.choices, answers=("ABCD"[asked.answer_index],), context="", subject=asked.topic,
                )
            )  # fmt: skip
    return drawn


def test_scienceqa_comes_back(questions, tmp_path):
    write_folder(tmp_path / "scienceqa", scienceqa_files(questions, split="test"))
    assert read_scienceqa(tmp_path / "scienceqa", check_counts=False) == questions
    assert (tmp_path / "scienceqa/images/test/ink_0/image.png").is_file()


def test_questions_without_an_image_and_with_a_jpeg(questions, tmp_path):
    mixed = [replace(questions[0], image=None), replace(questions[1], image=b"\xff\xd8jpeg", context="A hint.")]
    write_folder(tmp_path / "q", scienceqa_files(mixed, split="val"))
    assert read_scienceqa(tmp_path / "q", split="val", images_only=False, check_counts=False) == mixed
    assert read_scienceqa(tmp_path / "q", split="val", check_counts=False) == mixed[1:]


def test_mmmu_comes_back(questions, tmp_path):
    open_ones = [replace(question, options=(), answers=("7",)) for question in questions[:2]]
    several = replace(questions[2], options=(), answers=("so", 'it\'s "so"'))
    asked = sorted([*open_ones, several, *questions[3:]], key=lambda question: question.subject)
    write_folder(tmp_path / "mmmu", mmmu_files(asked, split="validation"))
    assert read_mmmu(tmp_path / "mmmu", check_counts=False) == asked


def test_scienceqa_has_no_open_questions(questions):
    with pytest.raises(ValueError, match="'number_0' is open; ScienceQA has none"):
        scienceqa_files([replace(questions[0], options=())], split="test")
