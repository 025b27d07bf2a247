"""Zero-shot tasks are read as written, and wrong ones refused by name."""

import json

import pytest

from gmail_kedro.corpora.classification_tasks import read_classification


def _task(**changes):
    return {"classes": ["cat", "dog"], "templates": ["a {}", "photo of a {}"], "labels": {"7": 1}, **changes}


@pytest.fixture
def write(tmp_path):
    def write_tasks(content):
        path = tmp_path / "classification.json"
        path.write_text(json.dumps(content), encoding="utf-8-sig")
        return path

    return write_tasks


def test_tasks_are_read(write):
    tasks = read_classification(write({"tasks": {"animal": _task()}}))
    assert list(tasks) == ["animal"]
    assert tasks["animal"].classes == ("cat", "dog")
    assert tasks["animal"].templates == ("a {}", "photo of a {}")
    assert tasks["animal"].labels == {"7": 1}


@pytest.mark.parametrize("content", [[], {}, {"tasks": {}}, {"tasks": [1]}])
def test_a_file_without_tasks_is_refused(write, content):
    with pytest.raises(
        ValueError, match="classification.json' must be an object with a non-empty object 'tasks'. Got "
    ):
        read_classification(write(content))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ([], r"must have the keys classes, templates and labels. Missing: \['classes', 'templates', 'labels'\]"),
        ({"classes": ["a", "b"], "labels": {}}, r"Missing: \['templates'\]"),
        (_task(classes=["cat"]), r"'classes' must be a list of 2 or more different, non-blank strings. Got \['cat'\]"),
        (_task(classes=["cat", "cat"]), "'classes' must be a list of 2 or more different"),
        (_task(classes=["cat", " "]), "'classes' must be a list"),
        (_task(classes="cats"), "'classes' must be a list .*Got 'cats'"),
        (_task(templates=[]), "'templates' must be a list of 1 or more"),
        (_task(templates=["a photo"]), r"each template must have one \{\} for the class name. Got 'a photo'"),
        (_task(templates=["{} {}"]), r"must have one \{\}"),
        (_task(labels={}), "'labels' must map image ids to class indices, one or more. Got {}"),
        (_task(labels=[0, 1]), r"'labels' must map image ids to class indices.*Got \[0, 1\]"),
        (_task(labels={"7": 2}), "the label of image '7' must be a class index, 0 to 1. Got 2"),
        (_task(labels={"7": -1}), "Got -1"),
        (_task(labels={"7": "dog"}), "Got 'dog'"),
        (_task(labels={"7": True}), "Got True"),
    ],
)
def test_a_wrong_task_is_refused_by_name(write, task, message):
    with pytest.raises(ValueError, match=f"Task 'animal' of '.*classification.json'.*{message}"):
        read_classification(write({"tasks": {"animal": task}}))


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classification file '.*none.json' does not exist"):
        read_classification(tmp_path / "none.json")
