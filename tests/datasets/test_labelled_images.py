"""Classification sets through the catalog."""

import pytest
import yaml
from kedro.io import DataCatalog, DatasetError

from gmail_kedro.corpora.classification_sets import CLASS_SETS
from gmail_kedro.datasets.labelled_images import LabelledImagesDataset


def test_every_set_of_the_paper_says_what_it_misses(repository, tmp_path, monkeypatch):
    """Peers test 25."""
    entries = yaml.safe_load((repository / "conf/paper/catalog_class_sets.yml").read_text())
    together = entries.pop("class_sets")
    assert set(entries) == set(CLASS_SETS)
    assert together["sets"] == {name: f"${{{name}}}" for name in CLASS_SETS}
    catalog = DataCatalog.from_config(entries)
    monkeypatch.chdir(tmp_path)
    for name in entries:
        assert not catalog.exists(name)
        with pytest.raises(DatasetError, match=f"{name!r} should be the folder '{tmp_path}/data/01_raw/.*comes from"):
            catalog.load(name)


def test_counts_may_be_waived_in_the_entry(tmp_path):
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    (base / "images/waffles").mkdir(parents=True)
    (base / "images/waffles/2.jpg").write_bytes(b"x")
    (base / "meta/test.json").write_text('{"waffles": ["waffles/2"], "ramen": []}')
    with pytest.raises(DatasetError, match="'food101' must have 101 classes. Got 2 instead"):
        LabelledImagesDataset(name="food101", root=str(tmp_path)).load()
    part = LabelledImagesDataset(name="food101", root=str(tmp_path), check_counts=False)
    assert part.exists()
    assert part.load().task.labels == {"food-101/images/waffles/2.jpg": 1}
    with pytest.raises(DatasetError, match="'food101'.* is read-only"):
        part.save("x")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "cifar", "root": "x"}, "'cifar' is unknown"),
        (
            {"name": "sun397", "root": "x", "listing": "y", "train_per_class": 30},
            "listings or train_per_class, 1 or more",
        ),
        ({"name": "caltech101", "root": "x", "train_per_class": 0}, "Got None, None, 0"),
        ({"name": "dtd"}, "takes root or tars, one of them. Got None, None"),
        ({"name": "dtd", "root": "x", "tars": "y"}, "takes root or tars, one of them. Got 'x', 'y'"),
    ],
)
def test_a_wrong_entry_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        LabelledImagesDataset(**entry)
