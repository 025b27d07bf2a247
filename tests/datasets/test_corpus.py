"""Corpora through the catalog, read-only; the mini world is read like any other."""

import json
from pathlib import Path

import pytest
import yaml
from kedro.io import DataCatalog, DatasetError

from gmail_kedro.datasets.corpus import CorpusDataset
from gmail_kedro.hooks.catalog_hooks import CatalogHooks
from gmail_kedro.images.image_faults import check_images
from gmail_kedro.mini.world.datasets import MiniWorldDataset
from gmail_kedro.mini.world.params import MiniWorldParams
from gmail_kedro.mini.world.world_files import draw_world
from gmail_kedro.mini.world.written_folder import write_folder

PARAMS = MiniWorldParams(train_count=20, val_count=3, test_count=5, seed=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "world"
    write_folder(folder, draw_world(PARAMS))
    return folder


def test_the_mini_world_is_an_ordinary_karpathy_corpus(world):
    dataset = CorpusDataset(
        name="mini",
        layout="karpathy",
        annotations=str(world / "dataset_mini.json"),
        images=str(world / "images"),
        classification=str(world / "classification.json"),
    )
    assert dataset.exists()
    corpus, own = dataset.load(), MiniWorldDataset(filepath=str(world)).load()
    assert corpus.captions.equals(own.captions)
    assert corpus.labels == own.labels


def _own(annotations: Path, images: Path) -> CorpusDataset:
    return CorpusDataset(name="own", layout="karpathy", annotations=str(annotations), images=str(images))


def test_a_corpus_of_real_images_is_read_only(world):
    dataset = CorpusDataset(
        name="own", layout="karpathy", annotations=str(world / "dataset_mini.json"), images=str(world)
    )
    with pytest.raises(DatasetError, match="The corpus 'own' .* is read-only: nothing can be saved to it"):
        dataset.save(PARAMS)


def test_errors_of_the_reader_reach_the_user(tmp_path, world):
    absent = CorpusDataset(
        name="own", layout="karpathy", annotations=str(tmp_path / "none.json"), images=str(world / "images")
    )
    assert not absent.exists()
    with pytest.raises(DatasetError, match="annotations file of the corpus 'own' '.*none.json' does not exist"):
        absent.load()
    (tmp_path / "empty.json").write_text(json.dumps({"images": []}))
    empty = CorpusDataset(
        name="own", layout="karpathy", annotations=str(tmp_path / "empty.json"), images=str(world / "images")
    )
    with pytest.raises(DatasetError, match="lists no images"):
        empty.load()


def test_train_splits_come_from_the_catalog(tmp_path, world):
    content = json.loads((world / "dataset_mini.json").read_text())
    for image in content["images"][:5]:
        image["split"] = "restval"
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    entry = {
        "type": "gmail_kedro.datasets.corpus.CorpusDataset",
        "name": "own",
        "layout": "karpathy",
        "annotations": str(tmp_path / "dataset.json"),
        "images": str(world / "images"),
    }
    catalog = DataCatalog.from_config({"all": entry, "some": {**entry, "protocol": {"train_splits": ["train"]}}})
    assert catalog.load("all").captions.image_id.nunique() == 28
    assert catalog.load("some").captions.image_id.nunique() == 23


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_cocos_own_layout_gives_the_same_captions(world, split):
    dataset = CorpusDataset(
        name="mini",
        layout="coco",
        protocol={"split": split},
        annotations=str(world / f"annotations/captions_{split}.json"),
        images=str(world / "images" / split),
    )
    own = MiniWorldDataset(filepath=str(world)).load().captions
    columns = ["caption_id", "image_id", "caption", "split"]
    found = dataset.load()
    assert found.captions[columns].equals(own.loc[own["split"] == split, columns].reset_index(drop=True))
    check_images(found, found.captions.image_id)


def test_long_captions_keep_their_first_images_for_the_test(world):
    long = {"name": "mini", "layout": "sharegpt4v", "images": str(world / "images")}
    long["annotations"] = str(world / "long_captions.json")
    corpus = CorpusDataset(**long, protocol={"first_to_test": 3}).load()
    assert corpus.captions["split"].tolist() == ["test"] * 3 + ["train"] * 25
    check_images(corpus, corpus.captions.image_id)
    with pytest.raises(DatasetError, match="'test' of the corpus 'mini' must have 1000 images .* Got 28"):
        CorpusDataset(**long, protocol="sharegpt4v_1k").load()
    assert len(CorpusDataset(**long, protocol="sharegpt4v_1k", expected=None).load().captions) == 28


def test_an_absent_image_does_not_pull_another_into_the_test(world, tmp_path):
    """The held-out entries are the first of the file, not the first that happen to be there."""
    content = json.loads((world / "long_captions.json").read_text())
    content[1]["image"] = "gone.jpg"
    (tmp_path / "long.json").write_text(json.dumps(content))
    long = {"name": "mini", "images": str(world / "images"), "skip_missing": True}
    share = CorpusDataset(
        **long, layout="sharegpt4v", annotations=str(tmp_path / "long.json"), protocol={"first_to_test": 3}
    )
    corpus = share.load()
    assert corpus.captions["split"].tolist() == ["test"] * 2 + ["train"] * 25
    assert "position" not in corpus.captions
    assert corpus.skipped == {"image that is not there": 1}
    (tmp_path / "own.csv").write_text("file,caption\n" + "".join(f"{entry['image']},x\n" for entry in content))
    table = CorpusDataset(**long, layout="table", annotations=str(tmp_path / "own.csv"), protocol={"first_to_test": 3})
    with pytest.raises(DatasetError, match="first 3 images of .* are its test, but entries were left out"):
        table.load()


def test_counts_in_the_catalog_are_held_to(world):
    places = {"annotations": str(world / "dataset_mini.json"), "images": str(world / "images")}
    right = {"train": {"images": 20, "captions": 100}}
    CorpusDataset(name="mini", layout="karpathy", expected=right, **places).load()
    wrong = {"train": {"images": 20, "captions": 99}}
    with pytest.raises(DatasetError, match="must have 20 images with 99 captions. Got 20 with 100 instead"):
        CorpusDataset(name="mini", layout="karpathy", expected=wrong, **places).load()


@pytest.mark.reliability(12)
def test_skipped_entries_are_counted_and_limited(tmp_path):
    """Peers test 12."""
    (tmp_path / "own.csv").write_text("file,caption\n" + "a.jpg,x\n" * 99 + "b.jpg,\n")
    entry = {"name": "own", "layout": "table", "annotations": str(tmp_path / "own.csv"), "images": str(tmp_path)}
    with pytest.raises(DatasetError, match=r"1 of the 100 entries of the corpus 'own' cannot be used \(1.00%\)"):
        CorpusDataset(**entry, protocol={"split": "train"}).load()
    corpus = CorpusDataset(**entry, protocol={"split": "train"}, skip_limit=0.01).load()
    assert corpus.skipped == {"blank caption": 1}


def test_an_empty_corpus_is_refused_with_its_files(tmp_path):
    (tmp_path / "own.json").write_text("[]")
    entry = {"name": "own", "layout": "sharegpt4v", "annotations": str(tmp_path / "own.json"), "images": str(tmp_path)}
    with pytest.raises(DatasetError, match="files of the corpus 'own' hold no entry: annotations '.*own.json', images"):
        CorpusDataset(**entry, protocol={"split": "train"}).load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "tfrecord"}, r"layout of the corpus 'own' must be one of \['coco', 'flickr', .*Got 'tfrecord'"),
        (
            {"image": "x"},
            r"takes the keys \['annotations', 'images', 'skip_missing'\].*Unknown: \['image'\]; missing: \[\]",
        ),
        ({"images": None}, r"missing: \['images'\]"),
        ({"protocol": "coco"}, "protocol 'coco' is unknown"),
        ({"expected": {"train": 1}}, "expected must give counts by split"),
        ({"skip_limit": 2}, r"skip_limit of the corpus 'own' must be in \[0, 1\]. Got 2"),
        ({"skip_limit": True}, "skip_limit"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_is_opened(changes, message):
    entry = {"name": "own", "layout": "karpathy", "annotations": "a.json", "images": "images"}
    with pytest.raises(ValueError, match=message):
        CorpusDataset(**(entry | changes))


def test_every_corpus_of_the_paper_says_what_it_misses(repository, tmp_path, monkeypatch):
    entries = yaml.safe_load((repository / "conf/paper/catalog_corpus.yml").read_text())
    entries = {name: entry for name, entry in entries.items() if "CorpusDataset" in str(entry)}  # no aliases
    catalog = DataCatalog.from_config(entries)
    monkeypatch.chdir(tmp_path)
    assert {"coco_karpathy", "flickr30k_whole", "cc12m"} < entries.keys()
    for name in entries:
        with pytest.raises(DatasetError, match=f"'{tmp_path}/data/01_raw/.*' does not exist.*It comes from: "):
            catalog.load(name)


def test_the_benchmark_is_the_corpus_where_none_is_named(world):
    entry = {"type": "gmail_kedro.mini.world.datasets.MiniWorldDataset", "filepath": str(world)}
    alone, both = (
        DataCatalog.from_config({"corpus": entry}),
        DataCatalog.from_config({"corpus": entry, "benchmark_corpus": {**entry, "name": "other"}}),
    )
    for catalog in (alone, both, empty := DataCatalog()):
        CatalogHooks().after_catalog_created(catalog)
    assert alone.load("benchmark_corpus").captions.equals(alone.load("corpus").captions)
    assert both.load("benchmark_corpus").name == "other"
    assert "benchmark_corpus" not in empty
