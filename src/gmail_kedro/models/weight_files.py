"""Files of weights as they lie on disk: what keeps them from being loaded, found without loading them."""

import json
import zipfile
from pathlib import Path

MODEL_FILES = ("model.safetensors", "pytorch_model.bin")  # what transformers reads, in this order
SAFETENSORS = ".safetensors"
INDEX_ENDING = ".index.json"


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Returns the shapes of the tensors in a safetensors file, by name, from its head.

    Raises:
        SafetensorError: If the file is damaged or cut short.
    """
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def find_file_flaw(path: Path) -> str:
    """Returns what keeps a checkpoint file from being loaded, or nothing: it is not there, empty or cut short."""
    if not path.is_file():
        return f"{path.name} is not there"
    if path.stat().st_size == 0:
        return f"{path.name} is empty"
    if path.suffix == SAFETENSORS:
        try:
            read_shapes(path)
        except Exception as error:
            return f"{path.name} is damaged or cut short ({error})"
        return ""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"  # an older torch wrote no archives
    return f"{path.name} is damaged or cut short" if is_archive and not zipfile.is_zipfile(path) else ""


def find_folder_flaw(folder: Path, names: tuple[str, ...]) -> str:
    """Returns what keeps the weights in a folder from being loaded, or nothing.

    Args:
        folder: The folder.
        names: Names of weight files that are read, the preferred first; each may be cut into shards with an index.
    """
    if not folder.is_dir():
        return "not there"
    for name in names:
        index = folder / f"{name}{INDEX_ENDING}"
        if (folder / name).is_file():
            return find_file_flaw(folder / name)
        if index.is_file():
            return _find_shard_flaw(index)
    ends = {Path(name).suffix for name in names}
    others = sorted(file.name for file in folder.iterdir() if file.suffix in ends)
    found = f"; {', '.join(others)} would not be read: save the model without a variant, under that name"
    return f"no {' or '.join(names)}{found if others else ''}"


def _find_shard_flaw(index: Path) -> str:
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{index.name} is damaged ({error!r})"
    absent_count = sum(not (index.parent / shard).is_file() for shard in shards)
    if absent_count:
        return f"{absent_count} of {len(shards)} shards are missing"
    return next((flaw for shard in shards if (flaw := find_file_flaw(index.parent / shard))), "")
