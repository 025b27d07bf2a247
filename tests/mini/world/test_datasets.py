"""The mini world through the catalog: its nodes make files, its datasets store them and read them as anybody's."""

import pytest
from kedro.io import DataCatalog, DatasetError
from kedro.runner import SequentialRunner

from gmail_kedro.images.image_faults import check_images
from gmail_kedro.mini.world.caption_grammar import NOUNS
from gmail_kedro.mini.world.datasets import MiniQuestionsDataset, MiniWorldDataset
from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.mini.world.pipeline import create_pipeline
from gmail_kedro.mini.world.scene_questions import TASKS
from gmail_kedro.mini.world.visual_questions import draw_questions
from gmail_kedro.mini.world.world_files import draw_world

PARAMS = MiniWorldParams(train_count=20, val_count=3, test_count=5, seed=1)
BENCHMARKS = MiniBenchmarksParams(flickr_count=6, long_caption_count=4, scienceqa_count=9, mmmu_count=8, seed=3)
DATASETS = "gmail_kedro.mini.world.datasets."


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return draw_world(PARAMS)


@pytest.fixture
def dataset(tmp_path, files) -> MiniWorldDataset:
    dataset = MiniWorldDataset(filepath=str(tmp_path / "world"))
    dataset.save(files)
    return dataset


def test_the_mini_world_is_read_as_a_corpus(dataset):
    corpus = dataset.load()
    assert corpus.name == "mini"
    assert len(corpus.captions) == 28 * 5
    assert corpus.captions.drop_duplicates("image_id").split.value_counts().to_dict() == {
        "train": 20, "val": 3, "test": 5,
    }  # fmt: skip
    assert corpus.captions.caption_id.is_unique
    assert list(corpus.labels) == list(TASKS)
    assert set(corpus.labels["ink"].labels) == set(corpus.captions.image_id)
    check_images(corpus, corpus.captions.image_id)


def test_the_corpus_hands_in_what_its_captions_state(dataset):
    grammar = dataset.load().grammar
    assert grammar is not None and grammar.nouns == NOUNS
    assert grammar.facts("the digit 7 in red ink.") == {("digits", "one"), ("number", "7"), ("ink", "red")}


def test_other_files_replace_the_world_and_the_same_are_left_alone(dataset, tmp_path, files):
    listing = tmp_path / "world/dataset_mini.json"
    before = listing.stat().st_ino
    dataset.save(files)
    assert listing.stat().st_ino == before
    dataset.save(draw_world(MiniWorldParams(train_count=3, val_count=1, test_count=1, seed=0)))
    assert dataset.load().captions.image_id.nunique() == 5


def test_a_world_exists_when_it_is_complete(tmp_path, files):
    dataset = MiniWorldDataset(filepath=str(tmp_path / "world"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="is not complete: it has no SHA256SUMS. Write it again: kedro run"):
        dataset.load()
    dataset.save(files)
    assert dataset.exists()
    for name in ("world.json", "SHA256SUMS"):
        (tmp_path / "world" / name).unlink()
        assert not dataset.exists()
        dataset.save(files)
        assert dataset.exists()


def test_an_image_of_the_mini_world_is_the_one_that_was_written(dataset):
    """Only the mini world's: a person's own images may be changed by that person."""
    images, (image_id, *_) = dataset.load().images, dataset.load().captions.image_id
    whole, path = images.read(image_id), images.images.path(image_id)
    assert images.size(image_id) == len(whole) and images.modality == "real"
    for damage in (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[: len(whole) // 2], b""):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=rf"{path.name} is not what was written: .*--pipeline=mini_world"):
            dataset.load().images.read(image_id)


def test_a_folder_of_somebody_elses_is_refused(tmp_path, files):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"must be empty or hold a mini world.*\['notes.txt'\]"):
        MiniWorldDataset(filepath=str(tmp_path)).save(files)


def test_the_pipeline_writes_everything_through_the_catalog(tmp_path, files):
    kinds = {"corpus": "main", "flickr_corpus": "flickr", "long_caption_corpus": "long_captions"}
    entries: dict[str, dict[str, str]] = {
        name: {"type": f"{DATASETS}MiniWorldDataset", "filepath": str(tmp_path / kind), "kind": kind}
        for name, kind in kinds.items()
    }
    for name in ("scienceqa", "mmmu"):
        kind = f"{DATASETS}MiniQuestionsDataset"
        entries[f"{name}_questions"] = {"type": kind, "filepath": str(tmp_path / name), "benchmark": name}
    catalog = DataCatalog.from_config(entries)
    catalog["params:mini_world"], catalog["params:mini_benchmarks"] = PARAMS, BENCHMARKS
    SequentialRunner().run(create_pipeline(), catalog)
    assert all((tmp_path / "main" / name).read_bytes() == content for name, content in files.items())
    assert [catalog.load(name).captions.image_id.nunique() for name in kinds] == [28, 6, 4]
    assert [len(catalog.load(f"{name}_questions")) for name in ("scienceqa", "mmmu")] == [9, 8]
    for name, kind, count in (("scienceqa", "choices", 9), ("mmmu", "open", 8)):
        drawn = {question.question_id: question for question in draw_questions("test", kind=kind, count=count, seed=3)}
        read = catalog.load(f"{name}_questions")
        assert {question.question_id for question in read} == drawn.keys()
        for question in read:
            wanted = drawn[question.question_id]
            assert (question.text, question.options, question.answers) == (wanted.text, wanted.options, wanted.answers)
            assert question.image == wanted.image


def test_questions_that_are_not_there_say_how_they_are_made(tmp_path):
    dataset = MiniQuestionsDataset(benchmark="mmmu", filepath=str(tmp_path / "q"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="kedro run --pipeline=mini_world --nodes=make_mini_questions"):
        dataset.load()


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"'vqa' is unknown.*mmmu.*scienceqa"):
        MiniQuestionsDataset(benchmark="vqa", filepath="x")
