"""A world on disk: the formats of the real corpora, the same bytes every time, whole or not there."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.mini import corpus, layouts
from gmail_kedro.mini.corpus import holds_world, open_world, write_mini_world
from gmail_kedro.mini.scans import load_scans
from gmail_kedro.mini.scenes import render_scene
from gmail_kedro.params.mini_world import MiniWorldParams

PARAMS = MiniWorldParams(train_count=12, val_count=4, test_count=6, seed=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "world"
    write_mini_world(folder, PARAMS)
    return folder


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_parameters_give_the_same_bytes(world, tmp_path):
    write_mini_world(tmp_path / "again", PARAMS)
    assert _digests(tmp_path / "again") == _digests(world)
    write_mini_world(tmp_path / "other", MiniWorldParams(train_count=12, val_count=4, test_count=6, seed=4))
    assert _digests(tmp_path / "other")["dataset_mini.json"] != _digests(world)["dataset_mini.json"]


def test_files_are_those_of_the_real_corpora(world):
    names = {name for name in _digests(world) if not name.endswith(".jpg")}
    assert names == {
        "annotations/captions_test.json", "annotations/captions_train.json", "annotations/captions_val.json",
        "classification.json", "dataset_mini.json", "long_captions.json", "questions.json", "world.json", "SHA256SUMS",
    }  # fmt: skip
    assert sorted(path.name for path in world.parent.iterdir()) == ["world"]


def test_dataset_file_is_in_karpathys_layout(world):
    images = _read(world / "dataset_mini.json")["images"]
    assert [image["split"] for image in images] == ["train"] * 12 + ["val"] * 4 + ["test"] * 6
    assert [image["imgid"] for image in images] == list(range(22))
    assert len({image["cocoid"] for image in images}) == 22
    sentences = [sentence for image in images for sentence in image["sentences"]]
    assert [sentence["sentid"] for sentence in sentences] == list(range(110))
    assert all(image["sentids"] == [sentence["sentid"] for sentence in image["sentences"]] for image in images)
    assert all(" ".join(sentence["tokens"]) + "." == sentence["raw"] for sentence in sentences)
    assert all((world / "images" / image["filepath"] / image["filename"]).is_file() for image in images)


def test_pictures_are_full_colour_jpegs_of_their_own_splits_handwriting(world):
    pages = list(corpus._draw_pages(PARAMS))
    values = {split: load_scans(split).values for split in ("train", "val", "test")}
    for page in pages:
        entry = page.entry
        data = (world / "images" / entry.split / entry.file_name).read_bytes()
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
        drawn = render_scene(entry.scene, load_scans(entry.split)).astype(int)
        assert np.abs(np.asarray(image).astype(int) - drawn).mean() < 4
        assert tuple(values[entry.split][list(entry.scene.scan_ids)]) == entry.scene.digits


def test_a_larger_world_begins_with_the_smaller_one(world):
    larger = MiniWorldParams(train_count=14, val_count=4, test_count=6, seed=3)
    scenes = {
        size: [page.entry.scene for page in corpus._draw_pages(params) if page.entry.split == "train"]
        for size, params in (("small", PARAMS), ("large", larger))
    }
    assert scenes["large"][:12] == scenes["small"]
    assert len(set(scenes["large"])) == 14


def test_test_scenes_are_mixed():
    pages = corpus._draw_pages(MiniWorldParams(train_count=1, val_count=1, test_count=200, seed=0))
    counts = [len(page.entry.scene.digits) for page in pages if page.entry.split == "test"]
    assert np.mean(np.array(counts) == 2) == pytest.approx(0.4, abs=0.1)


def test_coco_captions_agree_with_the_dataset_file(world):
    images = _read(world / "dataset_mini.json")["images"]
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        own = [image for image in images if image["split"] == split]
        content = _read(world / "annotations" / f"captions_{split}.json")
        assert len(own) == count
        assert [(image["id"], image["file_name"], image["width"], image["height"]) for image in content["images"]] == [
            (image["cocoid"], image["filename"], 32, 32) for image in own
        ]
        assert [(line["id"], line["image_id"], line["caption"]) for line in content["annotations"]] == [
            (sentence["sentid"], image["cocoid"], sentence["raw"]) for image in own for sentence in image["sentences"]
        ]


def test_long_captions_are_conversations(world):
    records = _read(world / "long_captions.json")
    images = _read(world / "dataset_mini.json")["images"]
    assert [record["id"] for record in records] == [str(image["cocoid"]) for image in images]
    for record in records:
        assert (world / "images" / record["image"]).is_file()
        assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"]
        assert record["conversations"][0]["value"].startswith("<image>\n")
        assert record["conversations"][1]["value"].count(".") >= 4


def test_questions_and_labels_are_those_of_the_scenes(world):
    entries = {str(page.entry.image_id): page.entry for page in corpus._draw_pages(PARAMS)}
    problems = _read(world / "questions.json")
    assert list(problems) == [str(number) for number in range(1, len(problems) + 1)]
    assert len(problems) == sum(len(entry.questions) for entry in entries.values())
    for problem in problems.values():
        entry = entries[problem["image_id"]]
        assert problem["image"] == f"{entry.split}/{entry.file_name}"
        assert problem["split"] == entry.split
        if problem["topic"] == "ink":
            assert problem["choices"][problem["answer"]] == entry.scene.ink
    ink = _read(world / "classification.json")["tasks"]["ink"]
    assert {image_id: ink["classes"][label] for image_id, label in ink["labels"].items()} == {
        image_id: entry.scene.ink for image_id, entry in entries.items()
    }


def test_a_task_without_pictures_is_left_out():
    pages = corpus._draw_pages(MiniWorldParams(train_count=30, val_count=1, test_count=1, seed=0))
    single = [page.entry for page in pages if len(page.entry.scene.digits) == 1]
    assert "relation" not in layouts.classification(single)["tasks"]
    assert "digit" in layouts.classification(single)["tasks"]


def test_complete_means_this_world_and_no_other(world, tmp_path):
    assert holds_world(world)
    assert holds_world(world, PARAMS)
    assert not holds_world(world, MiniWorldParams(train_count=12, val_count=4, test_count=6, seed=0))
    assert not holds_world(tmp_path)
    (tmp_path / "world.json").write_text("{", encoding="utf-8")
    assert not holds_world(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is not complete: it has no usable world.json.*kedro run"):
        open_world(tmp_path)


def test_a_changed_world_is_refused(tmp_path):
    write_mini_world(tmp_path / "world", PARAMS)
    open_world(tmp_path / "world")
    for name in ("dataset_mini.json", "classification.json", "annotations/captions_test.json"):
        path = tmp_path / "world" / name
        whole = path.read_text()
        path.write_text(whole.replace("ink", "pen", 1))
        with pytest.raises(ValueError, match=rf"{name} is not what was written: .*kedro run --pipeline=mini_world"):
            open_world(tmp_path / "world")
        path.unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name} is not there. Delete the folder"):
            open_world(tmp_path / "world")
        path.write_text(whole)
    open_world(tmp_path / "world")


def test_a_world_without_checksums_of_an_earlier_version_is_written_again(tmp_path):
    write_mini_world(tmp_path / "world", PARAMS)
    (tmp_path / "world/SHA256SUMS").unlink()
    assert not holds_world(tmp_path / "world", PARAMS)
    with pytest.raises(FileNotFoundError, match="it has no usable world.json with SHA256SUMS"):
        open_world(tmp_path / "world")
    write_mini_world(tmp_path / "world", PARAMS)
    assert holds_world(tmp_path / "world", PARAMS)


def test_an_older_world_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "world"
    write_mini_world(folder, PARAMS)
    smaller = MiniWorldParams(train_count=2, val_count=1, test_count=1, seed=3)
    write_mini_world(folder, smaller)
    assert holds_world(folder, smaller)
    assert len(list(folder.rglob("*.jpg"))) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"must be empty or hold a mini world.*It also holds \['thesis.tex'\]"):
        write_mini_world(tmp_path, PARAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileExistsError, match="needs a folder at .*Got a file"):
        write_mini_world(tmp_path / "thesis.tex", PARAMS)


def test_an_interrupted_world_is_not_there(tmp_path, monkeypatch):
    write_mini_world(tmp_path / "world", PARAMS)

    def break_off(entries):
        raise KeyboardInterrupt

    monkeypatch.setattr(layouts, "questions", break_off)
    for name in ("world", "new"):
        with pytest.raises(KeyboardInterrupt):
            write_mini_world(tmp_path / name, MiniWorldParams(train_count=2, val_count=1, test_count=1, seed=3))
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    assert holds_world(tmp_path / "world", PARAMS)


def test_the_older_world_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write_mini_world(tmp_path / "world", PARAMS)
    rename = corpus.os.rename

    def fail_for_the_new(source, target):
        if ".unfinished-" in Path(source).name:
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(corpus.os, "rename", fail_for_the_new)
    with pytest.raises(PermissionError):
        write_mini_world(tmp_path / "world", MiniWorldParams(train_count=2, val_count=1, test_count=1, seed=3))
    assert holds_world(tmp_path / "world", PARAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
