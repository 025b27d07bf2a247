"""Weights from files: read without pickled code, and refused with a list when they do not fit.

One rule for every loader: each tensor of the architecture came from the file, in its shape, and the file held nothing
else; otherwise the load is refused.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.models.registry import MissingWeightsError, reason_of
from gmail_kedro.models.weight_files import find_file_flaw

LISTED = 3
WRAPPERS = ("module.", "_orig_mod.")  # of distributed and of compiled models
REMEDY = "Give the whole weights of this model, or the name of the model they belong to."
UNWRAP = f"They were saved out of a wrapper: take {' or '.join(WRAPPERS)} off the names."
OLD_BUFFERS = ("position_ids", "rotary_emb.inv_freq", "attn.masked_bias")  # stored by older versions, computed today


def read_state_dict(name: str, path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint, float32, out of whatever they were wrapped in.

    A ``.safetensors`` file holds the tensors themselves; any other file is read by ``torch.load`` with
    ``weights_only=True``, so that no code in it runs. Wrappers ``state_dict`` and ``model`` and the prefixes
    ``module.`` and ``_orig_mod.`` are taken off.

    Args:
        name: Name of the model, for the message.
        path: The file.

    Raises:
        MissingWeightsError: If the file is not there, damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise MissingWeightsError(f"The weights of {name!r} were to be read from {path}, which is not there.")
    try:
        stored = _read(path)
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of {name!r} could not be loaded from {path}: {reason_of(error)}. The file is damaged or of "
            "another format; expected a state dict as .safetensors, .pt or .pth."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    tensors = {_unwrap(key): value for key, value in stored.items() if torch.is_tensor(value)}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load_strictly(name: str, model: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Loads a state into a model if every name and every shape agrees.

    Args:
        name: Name of the model, for the message.
        model: Gets the weights.
        state: The tensors by the model's own names.
        source: Where they came from, for the message.

    Raises:
        MissingWeightsError: If names or shapes differ; counts them and lists the first few.
    """
    refuse_other_shapes(name, shapes_of(model.state_dict()), shapes_of(state), source=source)
    model.load_state_dict(state)


def load_file_strictly(name: str, model: torch.nn.Module, path: Path) -> None:
    """Loads a file into a model if every name and every shape agrees.

    Args:
        name: Name of the model, for the message.
        model: Gets the weights.
        path: The file.

    Raises:
        MissingWeightsError: If the file is not there, damaged, or does not fit.
    """
    load_strictly(name, model, read_state_dict(name, path), source=str(path))


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Returns the shapes of named tensors."""
    return {key: list(value.shape) for key, value in state.items()}


def refuse_other_shapes(
    name: str,
    expected: Mapping[str, list[int]],
    found: Mapping[str, list[int]],
    *,
    source: str,
    remedy: str = REMEDY,
) -> None:
    """Refuses tensors whose names and shapes are not those of a model.

    Args:
        name: Name of the model, for the message.
        expected: Shapes by the model's names.
        found: Shapes by the file's names.
        source: Where they came from, for the message.
        remedy: What to do, for the message.

    Raises:
        MissingWeightsError: If names or shapes differ; counts them and lists the first few.
    """
    _refuse(
        name,
        source,
        count=len(expected),
        missing=expected.keys() - found.keys(),
        unexpected=found.keys() - expected.keys(),
        misshapen=[
            f"{key} {found[key]} instead of {expected[key]}"
            for key in expected.keys() & found.keys()
            if found[key] != expected[key]
        ],
        remedy=remedy,
    )


def refuse_partial_load(
    name: str, model: torch.nn.Module, loading: Mapping[str, Any], *, source: str, passed_over: tuple[str, ...] = ()
) -> None:
    """Refuses a model of transformers or diffusers that did not get every tensor from its files.

    The files' names cannot be compared themselves: both libraries read files with older names.

    Args:
        name: Name of the model, for the message.
        model: What was loaded, with ``ignore_mismatched_sizes``, so that other shapes are listed and not raised.
        loading: The library's ``output_loading_info``.
        source: The folder, for the message.
        passed_over: Beginnings of names that belong to a part of the file's model which this one does not have.

    Raises:
        MissingWeightsError: If tensors are missing, of another shape, or without a place in the model.
    """
    unexpected = [
        key for key in loading["unexpected_keys"] if not key.endswith(OLD_BUFFERS) and not key.startswith(passed_over)
    ]
    misshapen = [f"{key} {list(found)} instead of {list(wanted)}" for key, found, wanted in loading["mismatched_keys"]]
    _refuse(
        name,
        source,
        count=len(model.state_dict()),
        missing=loading["missing_keys"],
        unexpected=unexpected,
        misshapen=misshapen,
    )


def find_checkpoint(name: str, path: Path, suffixes: tuple[str, ...], *, own: str = "") -> Path:
    """Returns the checkpoint a path leads to: the file itself, or the one such file of a folder.

    Hubs keep a model's weights in several formats side by side: the family's own file names come first.

    Args:
        name: Name of the model, for the message.
        path: A file or a folder.
        suffixes: Endings of checkpoint files, the preferred first.
        own: How the names of the family's own files begin.

    Raises:
        MissingWeightsError: If the folder has no such file, or several with the same ending, or it is cut short.
    """
    if not path.is_file():
        path = _choose(name, path, suffixes, own)
    if flaw := find_file_flaw(path):
        raise MissingWeightsError(
            f"The weights of {name!r} could not be loaded from {path}: {flaw}. Download or copy the file again."
        )
    return path


def _choose(name: str, folder: Path, suffixes: tuple[str, ...], own: str) -> Path:
    for start in dict.fromkeys((own, "")):
        for suffix in suffixes:
            found = sorted(folder.glob(f"{start}*{suffix}"))
            if len(found) == 1:
                return found[0]
            if found:
                raise MissingWeightsError(
                    f"The weights of {name!r} were to be read from {folder}, which holds several: "
                    f"{', '.join(file.name for file in found)}. Set run.encoder_path to one of them."
                )
    raise MissingWeightsError(
        f"The weights of {name!r} were to be read from {folder}, but no {' or '.join(suffixes)} file is there."
    )


def _refuse(
    name: str,
    source: str,
    *,
    count: int,
    missing: Collection[str],
    unexpected: Collection[str],
    misshapen: Collection[str],
    remedy: str = REMEDY,
) -> None:
    problems = [
        f"{len(keys)}{of} {kind} ({', '.join(sorted(keys)[:LISTED])}{', ...' if len(keys) > LISTED else ''})"
        for of, kind, keys in (
            (f" of {count} tensors", "missing", missing),
            ("", "unexpected", unexpected),
            ("", "of another shape", misshapen),
        )
        if keys
    ]
    if problems:
        is_wrapped = any(key.startswith(WRAPPERS) for key in unexpected)
        raise MissingWeightsError(
            f"The weights in {source} do not fit {name!r}: {', '.join(problems)}. {UNWRAP if is_wrapped else remedy}"
        )


def _unwrap(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.split(".", 1)[1]
    return key


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(stored, Mapping):
        raise TypeError(f"expected a dictionary of tensors, got {type(stored).__name__}")
    return stored
