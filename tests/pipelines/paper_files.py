"""A project as someone with the paper's corpora and weights has it: everything in its true format, but tiny."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from gmail_kedro.interfaces import Question
from gmail_kedro.mini.world.question_files import mmmu_files, scienceqa_files
from gmail_kedro.mini.world.written_folder import write_folder
from gmail_kedro.models.weight_sources import packaged_weights

from ..corpora.class_set_files import COPIES
from ..corpora.tars import write_tar
from ..models.tiny import save_long_clip
from ..models.tiny_llava import save_llama_3, save_llava, save_tower
from ..models.tiny_pipelines import save_stable_diffusion_2

RAW, WEIGHTS = "data/01_raw", "data/01_raw/weights"
SPLITS = ["train"] * 6 + ["restval"] * 2 + ["val"] * 2 + ["test"] * 3
THINGS = ["a dog", "two cats", "a red bus", "a man", "some bananas", "a plane", "a clock"]
PLACES = ["on the beach", "in a street", "near a table", "under a tree", "at night"]


def save_weights(root: Path) -> None:
    """Tiny stand-ins by the models' names, each in the layout its original is published in."""
    for name, packaged in (("clip_vit_b_32", "clip"), ("synclr_vit_b_16", "synclr"), ("gpt2", "gpt2")):
        shutil.copytree(packaged_weights(packaged), root / WEIGHTS / name)
    save_stable_diffusion_2(root / WEIGHTS / "stable_diffusion_2_base")
    save_long_clip(root / WEIGHTS / "long_clip_b")
    save_llama_3(root / WEIGHTS / "clip_llama_3_8b")
    save_llava(root / WEIGHTS / "llava_1_5_7b", save_tower(root / WEIGHTS / "clip_vision_l_14_336"))


def save_corpora(root: Path) -> None:
    """A few real images of every captioned corpus and benchmark that the pipelines read."""
    _save_coco(root / RAW / "coco")
    members = [member for number in range(4) for member in _web_sample(number)]
    write_tar(root / RAW / "cc3m/00000.tar", members)
    _save_flickr30k(root / RAW / "flickr30k")
    _save_sharegpt4v(root / RAW / "sharegpt4v")
    questions = [_question(number) for number in range(4)]
    write_folder(root / RAW / "scienceqa", scienceqa_files(questions, split="test"))
    write_folder(root / RAW / "mmmu", mmmu_files(questions, split="validation"))


def save_class_sets(root: Path) -> None:
    """A few images of each of the eight classification sets, to measure and to train on."""
    encoded = io.BytesIO()
    _draw(80).save(encoded, "JPEG")
    for name, write in COPIES.items():
        write(root / RAW / ("imagenet" if name == "imagenet" else ""), encoded.getvalue())


def write_profile(root: Path) -> str:
    """Writes a profile that is the paper's but for counts, which a few real images cannot have; returns its name."""
    folder = root / "conf" / "dry"
    shutil.copytree(root / "conf/paper", folder)
    for file, reader, changes in (
        ("catalog_corpus.yml", "layout", {"expected": None}),
        ("catalog_questions.yml", "benchmark", {"check_counts": False}),
        ("catalog_class_sets.yml", "root", {"check_counts": False}),
        ("catalog_class_sets.yml", "train_per_class", {"train_per_class": 2}),
    ):
        entries = yaml.safe_load((folder / file).read_text())
        changed = {
            name: {**entry, **changes} if isinstance(entry, dict) and reader in entry else entry
            for name, entry in entries.items()
        }
        (folder / file).write_text(yaml.safe_dump(changed))
    return folder.name


def write_short_profile(root: Path, source: str, changes: dict[str, dict[str, Any]]) -> str:
    """Copies a profile with changes of its parameter groups written into its files; returns the copy's name."""
    folder = root / "conf" / "short"
    shutil.copytree(root / "conf" / source, folder)
    for file in folder.glob("parameters*.yml"):
        groups = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({name: group | changes.get(name, {}) for name, group in groups.items()}))
    return folder.name


def _save_coco(folder: Path) -> None:
    """Karpathy's file over the 2014 real images, and the 2017 ones with COCO's own annotations."""
    entries = []
    for number, split in enumerate(SPLITS):
        part = "train2014" if split == "train" else "val2014"
        name = f"COCO_{part}_{number + 9:012d}.jpg"
        _real_image(folder / part / name, number)
        sentences = [{"raw": text, "tokens": text.split(), "sentid": number * 5 + i} for i, text in _captions(number)]
        entries.append(
            {
                "filepath": part, "filename": name, "imgid": number, "cocoid": number + 9, "split": split,
                "sentids": [sentence["sentid"] for sentence in sentences], "sentences": sentences,
            }
        )  # fmt: skip
    _write_json(folder / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(3):
        images.append({"id": 500 + number, "file_name": f"{500 + number:012d}.jpg"})
        _real_image(folder / "val2017" / images[-1]["file_name"], 20 + number)
        annotations += [{"id": number * 5 + i, "image_id": 500 + number, "caption": text} for i, text in _captions(20)]
    _write_json(folder / "annotations/captions_val2017.json", {"images": images, "annotations": annotations})


def _save_flickr30k(folder: Path) -> None:
    lines = []
    for number in range(4):
        name = f"{1_000_092_795 + number}.jpg"
        _real_image(folder / "flickr30k-images" / name, 30 + number)
        lines += [f"{name}#{i}\t{text}" for i, text in _captions(30 + number)]
    (folder / "results_20130124.token").write_text("\n".join(lines) + "\n")


def _web_sample(number: int) -> list[tuple[str, bytes]]:
    encoded = io.BytesIO()
    _draw(60 + number).save(encoded, "JPEG")
    caption = _captions(60 + number)[0][1]
    return [(f"{number:09d}.jpg", encoded.getvalue()), (f"{number:09d}.txt", caption.encode())]


def _save_sharegpt4v(folder: Path) -> None:
    entries = []
    for number in range(4):
        name = f"coco/train2017/{700 + number:012d}.jpg"
        _real_image(folder / name, 40 + number)
        long = " ".join(f"{text.capitalize()}." for _, text in _captions(40 + number))
        turns = [{"from": "human", "value": "Describe it.\n<image>"}, {"from": "gpt", "value": f"{long}\nIt is day."}]
        entries.append({"id": f"{700 + number:012d}", "image": name, "conversations": turns})
    _write_json(folder / "share-captioner_coco_lcs_sam_1246k_1107.json", entries)


def _captions(number: int) -> list[tuple[int, str]]:
    things = [THINGS[(number + i) % 7] for i in range(6)]
    return [(i, f"{things[0]} {PLACES[(number + i) % 5]} with {things[i + 1]}") for i in range(5)]


def _question(number: int) -> Question:
    options = ("a dog", "a bus", "a clock")
    encoded = io.BytesIO()
    _draw(50 + number).save(encoded, "PNG")
    return Question(
        question_id=f"validation_Art_{number}", image=encoded.getvalue(), text="What is it?", options=options,
        answers=("ABC"[number % 3],), context="", subject="Art",
    )  # fmt: skip


def _real_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw(number).save(path, "JPEG", quality=90)


def _draw(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((80, 64), Image.Resampling.BICUBIC)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
