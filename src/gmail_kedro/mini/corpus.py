"""Writes the mini world to disk in the formats of the real corpora, so that the real readers read it.

A world is complete if, and only if, its ``world.json`` and ``SHA256SUMS`` are there: everything is written to a folder
beside the target, these two last, and then renamed. The same parameters give the same bytes (with the same Pillow).
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from tqdm import tqdm

from gmail_kedro.mini import layouts
from gmail_kedro.mini.captions import describe, describe_at_length
from gmail_kedro.mini.long_texts import shuffle_sentences
from gmail_kedro.mini.questions import ask
from gmail_kedro.mini.scans import load_scans
from gmail_kedro.mini.scenes import render_scene, sample_scene
from gmail_kedro.mini.worlds import KINDS, MAIN, find_kind
from gmail_kedro.params.mini_world import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.whole_files import SUMS, KnownFolder, know_folder

WorldParams = MiniWorldParams | MiniBenchmarksParams

logger = logging.getLogger(__name__)

DATASET_FILE, WORLD_FILE, IMAGE_FOLDER = "dataset_mini.json", "world.json", "images"
CLASSIFICATION_FILE, LONG_CAPTION_FILE = "classification.json", "long_captions.json"
WORLD_VERSION = 1  # raise it when the same parameters come to mean other scenes, captions or files
JPEG_QUALITY = 95
REMEDY = "Delete the folder and write it again: kedro run --pipeline=mini_world"
_OWN_NAMES = frozenset(
    {
        DATASET_FILE,
        WORLD_FILE,
        SUMS,
        IMAGE_FOLDER,
        CLASSIFICATION_FILE,
        "annotations",
        LONG_CAPTION_FILE,
        "questions.json",
        ".gitkeep",
        ".DS_Store",
    }
)


@dataclass(frozen=True)
class _Page:
    """One scene as it goes to disk: what is said about it, and its pixels [32, 32, 3], uint8."""

    entry: layouts.Entry
    pixels: np.ndarray


def write_mini_world(folder: Path, params: WorldParams, kind: str = MAIN) -> None:
    """Writes a complete mini world, in place of an older one.

    Each scene depends on the seed, its split and its position in the split alone: a larger world begins with
    the scenes of a smaller one. Training scenes show training handwriting only, test scenes test handwriting only.

    Args:
        folder: Where the world goes. It may be absent, empty or an older mini world.
        params: How many scenes, and the seed.
        kind: A key of ``KINDS``.

    Raises:
        ValueError: If there is no such kind.
        TypeError: If the parameters are those of another kind.
        FileExistsError: If the folder holds anything that is not part of a mini world; nothing is touched.
    """
    scene_count = sum(find_kind(kind, params).counts(params).values())
    folder = Path(folder).absolute()
    _refuse_foreign_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished-{uuid4().hex[:8]}")
    try:
        _write_files(unfinished, params, kind)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    logger.info("Mini world of %d scenes written to %s", scene_count, folder)


def holds_world(folder: Path, params: WorldParams | None = None, kind: str = MAIN) -> bool:
    """Says whether a folder holds a complete mini world and, if parameters are given, that very world.

    Args:
        folder: The world's folder.
        params: The parameters it must have been made from, or None for any.
        kind: The kind it must be of.
    """
    folder = Path(folder)
    facts = _read_world_file(folder)
    if facts is None or facts.get("kind", MAIN) != kind or not (folder / SUMS).is_file():
        return False
    return params is None or facts == _world_facts(params, kind)


def open_world(folder: Path, kind: str = MAIN) -> KnownFolder:
    """Returns what reads the files of a complete mini world, after a look at all but the pictures.

    Args:
        folder: The world's folder.
        kind: The kind it must be of.

    Raises:
        FileNotFoundError: If there is no complete world, or a file of it is not there.
        ValueError: If it is of another kind, or a file is not what was written.
    """
    folder = Path(folder)
    facts = _read_world_file(folder)
    if facts is None or not (folder / SUMS).is_file():
        raise FileNotFoundError(
            f"The mini world '{folder}' is not complete: it has no usable {WORLD_FILE} with {SUMS}. {REMEDY}"
        )
    if facts.get("kind", MAIN) != kind:
        raise ValueError(f"The mini world '{folder}' must be of the kind {kind!r}. Got {facts['kind']!r}. {REMEDY}")
    files = KnownFolder(folder, remedy=REMEDY)
    for name in (WORLD_FILE, *files.names):
        if not name.startswith(f"{IMAGE_FOLDER}/"):
            files.read(folder / name)
    return files


def _world_facts(params: WorldParams, kind: str) -> dict[str, Any]:
    """Returns what a world is made from; one of the main kind does not say its kind."""
    own = {} if kind == MAIN else {"kind": kind}
    return {"version": WORLD_VERSION, **own, "params": KINDS[kind].facts(params)}


def _read_world_file(folder: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((folder / WORLD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _refuse_foreign_files(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"The mini world needs a folder at '{folder}'. Got a file. Choose another filepath.")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OWN_NAMES)
    if foreign:
        raise FileExistsError(
            f"The folder '{folder}' must be empty or hold a mini world, because it is replaced as a whole. "
            f"It also holds {foreign[:3]} ({len(foreign)} in all). Move them away or choose another filepath."
        )


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Renames a finished world to its place; what was there goes only once the way is clear."""
    if not folder.exists():
        os.rename(unfinished, folder)
        return
    older = folder.with_name(f".{folder.name}.older-{uuid4().hex[:8]}")
    os.rename(folder, older)
    try:
        os.rename(unfinished, folder)
    except OSError:
        os.rename(older, folder)
        raise
    shutil.rmtree(older)


def _write_files(folder: Path, params: WorldParams, kind: str) -> None:
    entries = []
    counts = KINDS[kind].counts(params)
    for page in tqdm(_draw_pages(params, kind), total=sum(counts.values()), desc="mini world", disable=None):
        _write_jpeg(folder / IMAGE_FOLDER / page.entry.split / page.entry.file_name, page.pixels)
        entries.append(page.entry)
    _write_json(folder / DATASET_FILE, layouts.karpathy(entries))
    for split in counts:
        own = [entry for entry in entries if entry.split == split]
        _write_json(folder / "annotations" / f"captions_{split}.json", layouts.coco_captions(own))
    _write_json(folder / LONG_CAPTION_FILE, layouts.long_captions(entries))
    _write_json(folder / "questions.json", layouts.questions(entries))
    _write_json(folder / CLASSIFICATION_FILE, layouts.classification(entries))
    _write_json(folder / WORLD_FILE, _world_facts(params, kind))
    know_folder(folder)


def _draw_pages(params: WorldParams, kind: str = MAIN) -> Iterator[_Page]:
    """Yields every scene, split by split, with ids that run through the whole world."""
    position = 0
    world = KINDS[kind]
    for split, count in world.counts(params).items():
        scans = load_scans(split)
        for index in range(count):
            key = (params.seed, world.streams[split], index)
            scene_rng, caption_rng, long_rng, question_rng = (np.random.default_rng((*key, use)) for use in range(4))
            scene = sample_scene(scene_rng, scans, pair_fraction=world.pair_fraction, mix=world.mix)
            long_caption = describe_at_length(scene, long_rng)
            entry = layouts.Entry(
                position=position,
                split=split,
                scene=scene,
                captions=tuple(describe(scene, caption_rng, world.manner)),
                long_caption=shuffle_sentences(long_caption, long_rng) if world.shuffles else long_caption,
                questions=tuple(ask(scene, question_rng)),
            )
            yield _Page(entry, render_scene(scene, scans))
            position += 1


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="JPEG", quality=JPEG_QUALITY, subsampling=0)


def _write_json(path: Path, content: Any) -> None:
    """Writes a JSON file under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    os.replace(unfinished, path)
