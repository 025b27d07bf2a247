"""Writes WebDataset tars as img2dataset does, and ones that nobody should write."""

import io
import json
import tarfile
from pathlib import Path

Members = list[tuple[str, bytes]]


def samples(count: int, image: bytes, *, first: int = 0) -> Members:
    """Returns the members of samples in img2dataset's manner: jpg, txt, json."""
    members: Members = []
    for number in range(first, first + count):
        caption = f"a photograph of number {number}"
        members += [
            (f"{number:09d}.jpg", image),
            (f"{number:09d}.txt", caption.encode()),
            (f"{number:09d}.json", json.dumps({"key": f"{number:09d}", "long": f"{caption}, at length"}).encode()),
        ]
    return members


def write_tar(path: Path, members: Members, *, kind: int = tarfile.PAX_FORMAT) -> Path:
    """Writes a tar; times with fractions force pax headers, as webdataset's own writer has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(content), 1.5 if kind == tarfile.PAX_FORMAT else 1
            tar.addfile(header, io.BytesIO(content))
    return path
