"""A captioned corpus of three pictures, for tests to break."""

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
def encode() -> Callable[..., bytes]:
    """Returns a function that encodes a picture."""

    def encode_image(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture
def photograph() -> Image.Image:
    """Returns a picture of 48 by 32 pixels without symmetry."""
    rows, columns = np.mgrid[:32, :48]
    pixels = np.stack([rows * 7, columns * 5, 200 - rows * columns // 10], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def entries() -> list[dict[str, Any]]:
    """Returns annotations of three pictures, free to change."""
    return copy.deepcopy(ENTRIES)


@pytest.fixture
def images(tmp_path, encode, photograph) -> Path:
    """Returns a folder with the three pictures."""
    for entry in ENTRIES:
        path = tmp_path / "images" / entry["filepath"] / entry["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photograph))
    return tmp_path / "images"


@pytest.fixture
def annotate(tmp_path) -> Callable[[Any], Path]:
    """Returns a function that writes an annotations file from its entries."""

    def write(entries: Any, *, encoding: str = "utf-8") -> Path:
        path = tmp_path / "dataset_own.json"
        path.write_bytes(json.dumps({"images": entries}, ensure_ascii=False).encode(encoding))
        return path

    return write
