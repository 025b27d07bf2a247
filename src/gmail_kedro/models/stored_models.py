"""A trained model's folder: a recipe, files of weights, and the checksums of them all; whole, or refused.

The order of writing is the promise: weights come first, the recipe after them and the checksums last. A folder with a
recipe has all its weights, and what a killed process leaves has no recipe and is refused.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.checksums import DamagedFileError
from gmail_kedro.models.fingerprints import combine_hashes, hash_files
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import atomic_write

CHECKSUMS_FILE = "files.json"

logger = logging.getLogger(__name__)


def save_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Writes a module's state as safetensors, which takes no tensor that is a view of another's memory."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def finish_folder(folder: Path, recipe_file: str, facts: Mapping[str, Any]) -> None:
    """Writes a model's recipe (JSON values) and, last of all, the checksums of the files that its folder holds."""
    _write_json(folder / recipe_file, facts)
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)  # an older one would be hashed with the rest
    _write_json(folder / CHECKSUMS_FILE, hash_files(folder, from_memory=False))


def open_folder(folder: Path, recipe_file: str, *, what: str, remedy: str) -> tuple[dict[str, Any], str]:
    """Returns a model's recipe, and one hash over its files, which are held against their checksums first.

    Args:
        folder: As ``finish_folder`` left it.
        recipe_file: The recipe's name.
        what: What the folder should hold, for the message.
        remedy: What the reader is advised to do; a sentence.

    Raises:
        MissingWeightsError: If there is no recipe, or a file is not there.
        DamagedFileError: If one is not what was written.
    """
    if not (folder / recipe_file).is_file():
        raise MissingWeightsError(f"There is no {what} at {folder} (expected {recipe_file}). {remedy}")
    fingerprint = check_folder(folder, remedy=remedy)
    return _read_json(folder / recipe_file, remedy=remedy), fingerprint


def check_folder(folder: Path, *, remedy: str) -> str:
    """Compares a model's files with the checksums they were stored with, and returns one hash over them.

    Every byte is read: about a second for each gigabyte. A folder without checksums, which an earlier version or
    another tool wrote, is taken as it is, and that is logged. ``remedy`` is a sentence for the message.

    Raises:
        MissingWeightsError: If a file is not there.
        DamagedFileError: If one is not what was written.
    """
    found = hash_files(folder, from_memory=False)
    own = found.pop(CHECKSUMS_FILE, None)
    if own is None:
        logger.warning("%s has no %s, so its files are not checked for damage.", folder, CHECKSUMS_FILE)
        return combine_hashes(found)
    stored = _read_json(folder / CHECKSUMS_FILE, remedy=remedy)
    # Files that are not named, such as a README written later, are nobody's weights and are passed over.
    for name, expected in stored.items():
        if name not in found:
            raise MissingWeightsError(f"There is no {name} in {folder}, and {CHECKSUMS_FILE} names one. {remedy}")
        if found[name] != expected:
            raise DamagedFileError(
                f"The file {folder / name} is damaged, or was changed after it was stored: its sha256 is "
                f"{found[name][:12]}, and {CHECKSUMS_FILE} says {str(expected)[:12]}. {remedy}"
            )
    return combine_hashes(stored)


def _read_json(path: Path, *, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"The file {path} is damaged: it is no JSON ({error}). {remedy}") from error


def _write_json(path: Path, facts: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
