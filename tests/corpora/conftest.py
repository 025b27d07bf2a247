"""A captioned corpus of three images, for tests to break."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENTRIES = [
    {
        "filepath": "train2014", "filename": "a.jpg", "imgid": 0, "cocoid": 900, "split": "train",
        "sentences": [{"raw": "A cat.", "sentid": 1}, {"raw": "A grey cat, asleep.", "sentid": 2}],
    },
    {
        "filepath": "val2014", "filename": "b.jpg", "imgid": 1, "cocoid": 901, "split": "restval",
        "sentences": [{"raw": "A dog.", "sentid": 3}],
    },
    {
        "filepath": "val2014", "filename": "c.jpg", "imgid": 2, "cocoid": 902, "split": "test",
        "sentences": [{"raw": "A bird.", "sentid": 4}],
    },
]  # fmt: skip


@pytest.fixture
def entries() -> list[dict[str, Any]]:
    """Returns annotations of three images, free to change."""
    return copy.deepcopy(ENTRIES)


@pytest.fixture
def images(tmp_path, encode, real_image) -> Path:
    """Returns a folder with the three images."""
    for entry in ENTRIES:
        path = tmp_path / "images" / entry["filepath"] / entry["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(real_image))
    return tmp_path / "images"


@pytest.fixture
def annotate(tmp_path) -> Callable[[Any], Path]:
    """Returns a function that writes an annotations file from its entries."""

    def write(entries: Any, *, encoding: str = "utf-8") -> Path:
        path = tmp_path / "dataset_own.json"
        path.write_bytes(json.dumps({"images": entries}, ensure_ascii=False).encode(encoding))
        return path

    return write
