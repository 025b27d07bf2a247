"""Several classification sets through the catalog."""

import pytest
from kedro.io import DataCatalog, DatasetError

ENTRY = {"type": "gmail_kedro.datasets.labelled_images.LabelledImagesDataset", "name": "dtd", "root": "nowhere"}


def catalog_of(sets):
    return DataCatalog.from_config(
        {"class_sets": {"type": "gmail_kedro.datasets.class_sets.ClassSetsDataset", "sets": sets}}
    )


def test_sets_are_opened_when_they_are_asked_for():
    readers = catalog_of({"dtd": ENTRY}).load("class_sets")
    assert list(readers) == ["dtd"]
    with pytest.raises(FileNotFoundError, match="^The classification set 'dtd' should be the folder"):
        readers["dtd"]()


def test_there_may_be_none():
    assert catalog_of({}).load("class_sets") == {}


def test_a_wrong_entry_is_refused_when_the_catalog_is_made():
    with pytest.raises(DatasetError, match="takes root or tars"):
        catalog_of({"dtd": {**ENTRY, "root": None}}).get("class_sets")


def test_they_are_read_only():
    with pytest.raises(DatasetError, match="read-only"):
        catalog_of({}).save("class_sets", {"dtd": None})
