"""Tensors on disk with a checksum, so that a changed byte is found when they are read and not in a result.

The file is plain safetensors, whose header holds the writer's facts and a sha256 over facts and tensors. For folders of
files that libraries write see ``models.stored_models``.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.whole_files import atomic_write

FACTS_KEY, CHECKSUM_KEY = "facts", "sha256"


class DamagedFileError(ValueError):
    """A file that is not what was written; the message names it."""


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Writes tensors, on any device, and facts (JSON values) with their checksum, atomically.

    Equal tensors and facts give equal bytes. The checksum costs about a second for each gigabyte.
    """
    from safetensors.torch import save_file

    held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    facts = dict(facts or {})
    header = facts | {CHECKSUM_KEY: _checksum(held, facts)}
    # One entry: safetensors writes several in an order that changes from process to process.
    with atomic_write(path) as partial:
        save_file(held, partial, metadata={FACTS_KEY: json.dumps(header, sort_keys=True)})


def read_tensors(path: Path, *, remedy: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns what ``write_tensors`` wrote, tensors on the CPU and facts, after comparing their checksum.

    Every byte is read once more for it: about a second for each gigabyte. ``remedy`` is a sentence for the message.

    Raises:
        DamagedFileError: If the file is absent, cut, changed, or was written without a checksum.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            facts = json.loads((stored.metadata() or {})[FACTS_KEY])
            expected = facts.pop(CHECKSUM_KEY)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except Exception as error:
        raise DamagedFileError(
            f"The file {path} cannot be read as safetensors with a checksum ({type(error).__name__}: {error}). {remedy}"
        ) from error
    found = _checksum(tensors, facts)
    if found != expected:
        raise DamagedFileError(
            f"The file {path} is damaged: the checksum of its content is {found[:12]}, and {str(expected)[:12]} was "
            f"written. {remedy}"
        )
    return tensors, facts


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns a sha256 over named tensors: names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):  # the order of a dictionary is no content
        tensor = tensors[name].detach().cpu().contiguous()
        # Shape and type as well: the same bytes in another shape are another tensor.
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checksum(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{json.dumps(facts, sort_keys=True)}{hash_tensors(tensors)}".encode()).hexdigest()
