"""The files of a mini world, in the formats of the real corpora, so that the real readers read it.

Nothing here touches the disk: the same parameters give the same bytes (with the same Pillow), and whoever stores them
can tell by them whether a world is already there.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from gmail_kedro.mini.world import world_layouts
from gmail_kedro.mini.world.caption_grammar import describe, describe_at_length, shuffle_sentences
from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import render_scene, sample_scene
from gmail_kedro.mini.world.worlds import KINDS, MAIN, find_kind

WorldParams = MiniWorldParams | MiniBenchmarksParams

DATASET_FILE, WORLD_FILE, IMAGE_FOLDER = "dataset_mini.json", "world.json", "images"
CLASSIFICATION_FILE, LONG_CAPTION_FILE = "classification.json", "long_captions.json"
WORLD_VERSION = 1  # raise it when the same parameters come to mean other scenes, captions or files
JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Page:
    """One scene as it goes to disk: what is said about it, and its pixels [32, 32, 3], uint8."""

    entry: world_layouts.Entry
    pixels: np.ndarray


def draw_world(params: WorldParams, kind: str = MAIN) -> dict[str, bytes]:
    """Returns the files of a mini world by their paths in its folder.

    Each scene depends on the seed, its split and its position in the split alone: a larger world begins with
    the scenes of a smaller one. Training scenes show training handwriting only, test scenes test handwriting only.

    Raises:
        ValueError: If there is no such kind.
        TypeError: If the parameters are those of another kind.
    """
    counts = find_kind(kind, params).counts(params)
    files, entries = {}, []
    for page in tqdm(_draw_pages(params, kind), total=sum(counts.values()), desc="mini world", disable=None):
        entry = page.entry
        files[f"{IMAGE_FOLDER}/{entry.split}/{entry.file_name}"] = encode_jpeg(page.pixels)
        entries.append(entry)
    contents = {
        DATASET_FILE: world_layouts.karpathy(entries),
        LONG_CAPTION_FILE: world_layouts.long_captions(entries),
        "questions.json": world_layouts.questions(entries),
        CLASSIFICATION_FILE: world_layouts.classification(entries),
        WORLD_FILE: _world_facts(params, kind),
    }
    for split in counts:
        own = [entry for entry in entries if entry.split == split]
        contents[f"annotations/captions_{split}.json"] = world_layouts.coco_captions(own)
    return files | {name: encode_json(content) for name, content in contents.items()}


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Returns pixels [H, W, 3], uint8, as a JPEG that keeps the colours of thin strokes (no chroma subsampling)."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def encode_json(content: Any) -> bytes:
    """Returns JSON in UTF-8."""
    return json.dumps(content, ensure_ascii=False).encode()


def _world_facts(params: WorldParams, kind: str) -> dict[str, Any]:
    """Returns what a world is made from; one of the main kind does not say its kind."""
    own = {} if kind == MAIN else {"kind": kind}
    return {"version": WORLD_VERSION, **own, "params": KINDS[kind].facts(params)}


def _draw_pages(params: WorldParams, kind: str = MAIN) -> Iterator[_Page]:
    """Yields every scene, split by split, with ids that run through the whole world."""
    position = 0
    world = KINDS[kind]
    for split, count in world.counts(params).items():
        scans = load_scans(split)
        for index in range(count):
            # one stream for each use, so that another wording of captions leaves scenes and questions as they are
            key = (params.seed, world.streams[split], index)
            scene_rng, caption_rng, long_rng, question_rng = (np.random.default_rng((*key, use)) for use in range(4))
            scene = sample_scene(scene_rng, scans, pair_fraction=world.pair_fraction, mix=world.mix)
            long_caption = describe_at_length(scene, long_rng)
            entry = world_layouts.Entry(
                position=position,
                split=split,
                scene=scene,
                captions=tuple(describe(scene, caption_rng, world.manner)),
                long_caption=shuffle_sentences(long_caption, long_rng) if world.shuffles else long_caption,
                questions=tuple(ask(scene, question_rng)),
            )
            yield _Page(entry, render_scene(scene, scans))
            position += 1
