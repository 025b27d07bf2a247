"""ScienceQA and MMMU, each as a tiny copy of its published files."""

import copy
import json

import pyarrow as pa
import pytest
import yaml
from kedro.io import DataCatalog, DatasetError
from pyarrow import parquet

from gmail_kedro.corpora.question_sets import read_mmmu, read_scienceqa
from gmail_kedro.datasets.questions import QuestionsDataset

PROBLEMS = {
    "4": {
        "question": "Which is red?", "choices": ["the sky", "blood"], "answer": 1, "hint": "Look.\nClosely.",
        "image": "image.png", "subject": "natural science", "topic": "biology", "split": "test",
    },
    "5": {
        "question": "What is 1+1?", "choices": ["2", "3", "4"], "answer": 0, "hint": "", "image": None,
        "subject": "social science", "split": "test",
    },
    "6": {"question": "x", "choices": ["a"], "answer": 0, "hint": "", "image": None, "subject": "", "split": "train"},
}  # fmt: skip
ROWS = [
    {
        "id": "validation_Art_1", "question": "What is <image 1>?", "options": "['a \"cat\"', \"a dog's bowl\"]",
        "answer": "B", "question_type": "multiple-choice", "image_1": {"bytes": b"1", "path": "1.png"}, "image_2": None,
    },
    {
        "id": "validation_Art_2", "question": "How many in <image 2>?", "options": "[]", "answer": "['2', 'two']",
        "question_type": "open", "image_1": None, "image_2": {"bytes": b"2", "path": None},
    },
    {
        "id": "validation_Art_3", "question": "Why?", "options": "[]", "answer": "because", "question_type": "open",
        "image_1": None, "image_2": None,
    },
]  # fmt: skip


@pytest.fixture
def problems():
    return copy.deepcopy(PROBLEMS)


@pytest.fixture
def scienceqa(tmp_path):
    def write(problems, splits=None):
        (tmp_path / "problems.json").write_text(json.dumps(problems))
        (tmp_path / "pid_splits.json").write_text(json.dumps(splits or {"train": ["6"], "val": [], "test": ["5", "4"]}))
        (tmp_path / "images/test/4").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images/test/4/image.png").write_bytes(b"png")
        return tmp_path

    return write


@pytest.fixture
def mmmu(tmp_path):
    def write(rows, subject="Art"):
        path = tmp_path / subject / "validation-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return tmp_path

    return write


def test_scienceqa_with_images(scienceqa, problems):
    (question,) = read_scienceqa(scienceqa(problems), check_counts=False)
    assert (question.question_id, question.image, question.text) == ("4", b"png", "Which is red?")
    assert (question.options, question.answers) == (("the sky", "blood"), ("B",))
    assert (question.context, question.subject) == ("Look.\nClosely.", "natural science")


def test_scienceqa_whole_and_in_order(scienceqa, problems):
    questions = read_scienceqa(scienceqa(problems), images_only=False, check_counts=False)
    assert [question.question_id for question in questions] == ["5", "4"]
    assert questions[0].image is None
    (train,) = read_scienceqa(scienceqa(problems), split="train", images_only=False, check_counts=False)
    assert train.question_id == "6"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["4"].update(answer=2), r"Problem '4' of .* must have a question, choices, and an answer"),
        (lambda p: p["4"].update(answer="B"), "an answer that numbers one of them"),
        (lambda p: p["4"].update(choices="ab"), "an answer that numbers one of them"),
        (
            lambda p: p["4"].update(choices=["<image>", "b"]),
            r"'4' of .* has images among its choices \['<image>', 'b'",
        ),
        (lambda p: p.pop("5"), "problem '5' of the split 'test' is not in problems.json"),
    ],
)
def test_a_wrong_problem_is_refused_by_name(scienceqa, problems, change, message):
    change(problems)
    with pytest.raises(ValueError, match=message):
        read_scienceqa(scienceqa(problems), check_counts=False)


@pytest.mark.reliability(25)
def test_scienceqa_is_whole_or_refused(scienceqa, problems):
    """Peers test 25."""
    folder = scienceqa(problems)
    with pytest.raises(ValueError, match="'test' of ScienceQA must have 4241 questions. Got 2 instead"):
        read_scienceqa(folder)
    with pytest.raises(ValueError, match=r"split 'dev' is not in .*It has \['test', 'train', 'val'\]"):
        read_scienceqa(folder, split="dev")
    (folder / "images/test/4/image.png").unlink()
    with pytest.raises(FileNotFoundError, match="its image '.*images/test/4/image.png' does not exist"):
        read_scienceqa(folder, check_counts=False)
    (folder / "pid_splits.json").unlink()
    with pytest.raises(FileNotFoundError, match="pid_splits.json' does not exist.*It comes from: scienceqa.github.io"):
        read_scienceqa(folder)


def test_mmmu(mmmu):
    first, second, third = read_mmmu(mmmu(ROWS), check_counts=False)
    assert (first.options, first.answers) == (('a "cat"', "a dog's bowl"), ("B",))
    assert (first.image, first.subject) == (b"1", "Art")
    assert (second.image, second.options, second.answers) == (b"2", (), ("2", "two"))
    assert (third.image, third.answers) == (None, ("because",))


@pytest.mark.parametrize(
    ("written", "answers"),
    [
        ("[Ne]3s1", ("[Ne]3s1",)),
        ("['salt', 'rock salt']", ("salt", "rock salt")),
        ("[0, 1)", ("[0, 1)",)),
        ("[2, 3]", ("[2, 3]",)),
        ("[]", ("[]",)),
        ("[" * 5000, ("[" * 5000,)),
    ],
)
def test_an_open_answer_is_words_unless_it_is_a_list_of_texts(mmmu, written, answers):
    (question,) = read_mmmu(mmmu([ROWS[2] | {"answer": written}]), check_counts=False)
    assert question.answers == answers


def test_image_marks_are_no_words_of_a_question(mmmu, scienceqa, problems):
    problems["4"].update(question="<image>\nWhich is red?", hint="Look. <image>")
    (question,) = read_scienceqa(scienceqa(problems), check_counts=False)
    assert (question.text, question.context) == ("Which is red?", "Look.")
    row = ROWS[0] | {"question": "<image> What is <image 1>?", "options": "['<image 1>', '<image>']"}
    (question,) = read_mmmu(mmmu([row]), check_counts=False)
    assert (question.text, question.options) == ("What is <image 1>?", ("<image 1>", "<image>"))  # which are not asked


def test_choices_with_equal_words_keep_their_letter(mmmu, scienceqa, problems):
    row = ROWS[0] | {"options": "['four', 'five', 'four', 'six']", "answer": "C"}
    (question,) = read_mmmu(mmmu([row]), check_counts=False)
    assert (question.options, question.answers) == (("four", "five", "four", "six"), ("C",))
    problems["4"].update(choices=["neither", "the first", "neither"], answer=2)
    (question,) = read_scienceqa(scienceqa(problems), check_counts=False)
    assert question.answers == ("C",)


@pytest.mark.reliability(27)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answer": "C"},
            r"Row 0 of .*'validation_Art_1'\) is no question .*'C' is no letter of its 2 options",
        ),
        ({"answer": ""}, "is no letter of its 2 options"),
        ({"answer": None}, "is no letter of its 2 options"),
        ({"options": "['a', "}, r"Row 0 of .*the options \"\['a', \" are no list of texts"),
        ({"options": "__import__('os').getcwd()"}, "Row 0 of .* are no list of texts"),
        ({"options": "'abc'"}, "are no list of texts"),
        ({"question_type": "open", "answer": None}, "the open question has the blank answer ''"),
        ({"question_type": "open", "answer": "['salt', ' ']"}, "has the blank answer"),
    ],
)
def test_a_wrong_row_is_refused_by_name(mmmu, change, message):
    """Peers test 27: what a file writes is never evaluated."""
    with pytest.raises(ValueError, match=message):
        read_mmmu(mmmu([ROWS[0] | change]), check_counts=False)


@pytest.mark.reliability(25)
def test_mmmu_is_whole_or_refused(mmmu, tmp_path):
    """Peers test 25."""
    with pytest.raises(FileNotFoundError, match="validation-00000-of-00001.parquet' does not exist.*MMMU/MMMU"):
        read_mmmu(tmp_path)
    folder = mmmu(ROWS)
    with pytest.raises(ValueError, match="'validation' of MMMU must have 900 questions. Got 3 instead"):
        read_mmmu(folder)
    mmmu(ROWS, subject="Copy")
    with pytest.raises(ValueError, match="3 questions of MMMU .* repeat an id"):
        read_mmmu(folder, check_counts=False)
    (folder / "Art/validation-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="of MMMU is damaged"):
        read_mmmu(folder, check_counts=False)


def test_through_the_catalog(scienceqa, problems, repository, tmp_path, monkeypatch):
    entry = {"benchmark": "scienceqa", "filepath": str(scienceqa(problems)), "split": "test"}
    assert [q.question_id for q in QuestionsDataset(**entry, check_counts=False).load()] == ["4"]
    with pytest.raises(ValueError, match=r"'vqav2' is unknown. Choose one of \['mmmu', 'scienceqa'\]"):
        QuestionsDataset(**(entry | {"benchmark": "vqav2"}))
    with pytest.raises(DatasetError, match="read-only"):
        QuestionsDataset(**entry).save("x")
    catalog = DataCatalog.from_config(yaml.safe_load((repository / "conf/paper/catalog_questions.yml").read_text()))
    monkeypatch.chdir(tmp_path)
    for name in ("scienceqa_questions", "mmmu_questions"):
        with pytest.raises(DatasetError, match="does not exist.*It comes from: "):
            catalog.load(name)
