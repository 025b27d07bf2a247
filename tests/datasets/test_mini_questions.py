"""The mini world's questions come through the benchmarks' own files and readers."""

import pytest

from gmail_kedro.datasets.mini_questions import MiniQuestionsDataset
from gmail_kedro.mini.visual_questions import draw_questions


@pytest.mark.parametrize(
    ("benchmark", "kind", "file"),
    [("scienceqa", "choices", "problems.json"), ("mmmu", "open", "*/validation-00000-of-00001.parquet")],
)
def test_questions_survive_the_benchmarks_files(tmp_path, benchmark, kind, file):
    dataset = MiniQuestionsDataset(benchmark=benchmark, filepath=str(tmp_path / "q"), count=9, seed=3)
    questions = dataset.load()
    assert list((tmp_path / "q").glob(file))
    drawn = {question.question_id: question for question in draw_questions("test", kind=kind, count=9, seed=3)}
    assert {question.question_id for question in questions} == drawn.keys()
    for question in questions:
        wanted = drawn[question.question_id]
        assert (question.text, question.options, question.answers) == (wanted.text, wanted.options, wanted.answers)
        assert question.image == wanted.image
    assert dataset.load() == questions


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"'vqa' is unknown.*mmmu.*scienceqa"):
        MiniQuestionsDataset(benchmark="vqa", filepath="x", count=1)
