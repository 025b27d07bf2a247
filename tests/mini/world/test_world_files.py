"""A world on disk: the formats of the real corpora, the same bytes every time, whole or not there."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.mini.world import world_files, world_layouts
from gmail_kedro.mini.world.params import MiniWorldParams
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import render_scene
from gmail_kedro.mini.world.world_files import draw_world
from gmail_kedro.mini.world.written_folder import write_folder

PARAMS = MiniWorldParams(train_count=12, val_count=4, test_count=6, seed=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "world"
    write_folder(folder, draw_world(PARAMS))
    return folder


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_parameters_give_the_same_bytes(world):
    written = {name: digest for name, digest in _digests(world).items() if name != "SHA256SUMS"}
    assert written == {name: hashlib.sha256(content).hexdigest() for name, content in draw_world(PARAMS).items()}
    other = draw_world(MiniWorldParams(train_count=12, val_count=4, test_count=6, seed=4))
    assert other["dataset_mini.json"] != (world / "dataset_mini.json").read_bytes()


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


def test_images_are_full_colour_jpegs_of_their_own_splits_handwriting(world):
    pages = list(world_files._draw_pages(PARAMS))
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
        size: [page.entry.scene for page in world_files._draw_pages(params) if page.entry.split == "train"]
        for size, params in (("small", PARAMS), ("large", larger))
    }
    assert scenes["large"][:12] == scenes["small"]
    assert len(set(scenes["large"])) == 14


def test_test_scenes_are_mixed():
    pages = world_files._draw_pages(MiniWorldParams(train_count=1, val_count=1, test_count=200, seed=0))
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
    entries = {str(page.entry.image_id): page.entry for page in world_files._draw_pages(PARAMS)}
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


def test_a_task_without_images_is_left_out():
    pages = world_files._draw_pages(MiniWorldParams(train_count=30, val_count=1, test_count=1, seed=0))
    single = [page.entry for page in pages if len(page.entry.scene.digits) == 1]
    assert "relation" not in world_layouts.classification(single)["tasks"]
    assert "digit" in world_layouts.classification(single)["tasks"]
