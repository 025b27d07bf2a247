"""Which classification sets a run measures: all that is wrong with them is told at once, before any work."""

from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from gmail_kedro.corpora.classification_sets import CLASS_SETS
from gmail_kedro.evaluation.measured_sets import check_class_sets, open_class_sets
from gmail_kedro.interfaces import ClassificationTask
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams

from ..corpora.class_set_files import COPIES

SPLITS = ["train"] * 5 + ["val"] * 2 + ["test"] * 3


@pytest.fixture(scope="module")
def groups(repository):
    names = ("evaluation", "fine_tuning")
    return {name: yaml.safe_load((repository / f"conf/base/parameters_{name}.yml").read_text())[name] for name in names}


@pytest.fixture
def evaluation(groups):
    return lambda **changes: EvaluationParams(**{**groups["evaluation"], **changes})


@pytest.fixture
def fine_tuning(groups):
    return lambda *sets: FineTuningParams(**{**groups["fine_tuning"], "sets": list(sets)})


@pytest.fixture
def corpus():
    rows = [(f"p{number}", "a 7.", split) for number, split in enumerate(SPLITS) for _ in range(2)]
    task = ClassificationTask(["odd", "even"], ["an {} one"], {f"p{number}": number % 2 for number in range(1, 10)})
    table = pd.DataFrame(rows, columns=["image_id", "caption", "split"])
    return SimpleNamespace(name="tiny", captions=table, labels={"parity": task}, images=object())


@pytest.fixture
def class_sets(tmp_path, encode, real_image):
    """All eight sets through the catalog, as conf/paper has them but for counts."""
    from gmail_kedro.datasets.class_sets import ClassSetsDataset

    for write in COPIES.values():
        write(tmp_path, encode(real_image))
    kind, listings = "gmail_kedro.datasets.labelled_images.LabelledImagesDataset", tmp_path / "SUN397"
    divisions = {
        "caltech101": {"train_per_class": 2},
        "sun397": {
            "listing": str(listings / "Testing_01.txt"), "training_listing": str(listings / "Training_01.txt")
        },
    }  # fmt: skip
    entries = {
        name: {"type": kind, "name": name, "root": str(tmp_path), "check_counts": False, **divisions.get(name, {})}
        for name in CLASS_SETS
    }
    return ClassSetsDataset(sets=entries).load()


def test_tasks_of_the_corpus_and_sets_of_the_catalog_stand_side_by_side(class_sets, corpus, evaluation):
    found = open_class_sets(class_sets, corpus, evaluation())
    assert list(found) == ["parity", *CLASS_SETS]
    assert found["parity"].images is corpus.images and found["parity"].metric == "acc1"
    assert found["parity"].task.labels == {"p7": 1, "p8": 0, "p9": 1}
    assert found["parity"].training().labels == {
        "train": {"p1": 1, "p2": 0, "p3": 1, "p4": 0}, "val": {"p5": 1, "p6": 0},
    }  # fmt: skip
    assert class_sets["dtd"]() is found["dtd"]  # read once


def test_what_is_measured_on_never_chooses_a_weight_decay(corpus, evaluation):
    parity = open_class_sets({}, corpus, evaluation(split="val", image_count=1))["parity"]
    assert parity.task.labels == {"p5": 1}
    labels = parity.training().labels
    assert len(labels["train"]) == 3 and len(labels["val"]) == 1 and "p6" not in labels["val"]


def test_only_what_is_wanted_is_opened(class_sets, corpus, evaluation):
    def fail():
        raise AssertionError("opened")

    barred = {name: class_sets[name] if name == "dtd" else fail for name in class_sets}
    assert list(open_class_sets(barred, corpus, evaluation(class_sets=["dtd"]))) == ["dtd"]
    assert open_class_sets(barred, corpus, evaluation(class_sets=[])) == {}


def test_an_unknown_name_lists_the_known_ones(class_sets, corpus, evaluation):
    with pytest.raises(ValueError, match=r"class_sets names \['cifar'\], .*Choose among \['caltech101', .*'parity'"):
        open_class_sets(class_sets, corpus, evaluation(class_sets=["dtd", "cifar"]))


def test_one_name_for_two_sets_is_refused(class_sets, corpus, evaluation):
    with pytest.raises(ValueError, match=r"names \['parity'\] are those of tasks of 'tiny' and of sets of the catalog"):
        open_class_sets({"parity": class_sets["dtd"]}, corpus, evaluation())


def test_all_that_are_missing_are_listed_at_once(class_sets, corpus, evaluation, tmp_path):
    """Peers test 25: before anything is encoded."""
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    (tmp_path / "food-101").rename(tmp_path / "food")
    with pytest.raises(FileNotFoundError) as missing:
        open_class_sets(class_sets, corpus, evaluation())
    told = str(missing.value)
    assert told.startswith("2 of the 8 classification sets that are measured cannot be read. Bring them, or name only")
    assert told.count("\n- The classification set '") == 2 and "Failed while loading" not in told
    assert "'food101' should be the folder" in told and "image-net.org" in told


def test_what_is_damaged_is_told_with_what_is_missing(class_sets, corpus, evaluation, tmp_path):
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    (tmp_path / "dtd/dtd/labels/test1.txt").unlink()
    with pytest.raises(ValueError, match=r"(?s)2 of the 8 .*'dtd' in .* cannot be read.*'imagenet' should be the"):
        open_class_sets(class_sets, corpus, evaluation())


def test_training_splits_must_be_there_where_something_is_trained(
    class_sets, corpus, evaluation, fine_tuning, tmp_path
):
    (tmp_path / "train").rename(tmp_path / "elsewhere")

    def check(params, *sets):
        check_class_sets(class_sets, lambda: list(corpus.labels), params, fine_tuning(*sets))

    check(evaluation())
    check(evaluation(), "dtd")
    for params, sets in ((evaluation(linear_probe=True), ()), (evaluation(class_sets=["imagenet"]), ("imagenet",))):
        with pytest.raises(FileNotFoundError, match="'imagenet' should be the folder '.*/train'"):
            check(params, *sets)


def test_names_are_checked_as_far_as_they_are_known(class_sets, evaluation, fine_tuning):
    asked = []

    def own(*names):
        return lambda: asked.append(names) or (list(names) or None)

    check_class_sets(class_sets, own("parity"), evaluation(class_sets=["dtd"]), fine_tuning("dtd"))
    assert asked == []  # a corpus is not opened for names that the catalog knows
    check_class_sets(class_sets, own("parity"), evaluation(), fine_tuning("parity"))
    check_class_sets(class_sets, own(), evaluation(class_sets=["later"]), fine_tuning("later"))
    with pytest.raises(ValueError, match=r"class_sets names \['later'\]"):
        check_class_sets(class_sets, own("parity"), evaluation(class_sets=["later"]), fine_tuning())
    with pytest.raises(ValueError, match=r"fine_tuning.sets must name sets that are measured: \['dtd'\]. Got \['sun"):
        check_class_sets(class_sets, own("parity"), evaluation(class_sets=["dtd"]), fine_tuning("sun397"))
