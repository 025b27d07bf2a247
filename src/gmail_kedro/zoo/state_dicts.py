"""Weights from files: read without pickled code, and refused with a list when they do not fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.zoo.registry import MissingWeightsError

LISTED = 3


def read_state_dict(name: str, path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint, float32, out of whatever they were wrapped in.

    A ``.safetensors`` file holds the tensors themselves; any other file is read by ``torch.load`` with
    ``weights_only=True``, so that no code in it runs. Wrappers ``state_dict`` and ``model`` and the prefix
    ``module.`` are taken off.

    Args:
        name: The zoo's name of the model, for the message.
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
            f"The weights of {name!r} could not be loaded from {path}: {error}. The file is damaged or of another "
            "format; expected a state dict as .safetensors, .pt or .pth."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    tensors = {key.removeprefix("module."): value for key, value in stored.items() if torch.is_tensor(value)}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load_strictly(name: str, model: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Loads a state into a model if every name and every shape agrees.

    Args:
        name: The zoo's name of the model, for the message.
        model: Gets the weights.
        state: The tensors by the model's own names.
        source: Where they came from, for the message.

    Raises:
        MissingWeightsError: If names or shapes differ; counts them and lists the first few.
    """
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = [
        f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:LISTED])}{', ...' if len(keys) > LISTED else ''})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if keys
    ]
    if problems:
        raise MissingWeightsError(
            f"The weights in {source} do not fit {name!r}: of {len(expected)} expected tensors "
            f"{'; '.join(problems)}. Give the weights of this model, or the name of the model they belong to."
        )
    model.load_state_dict(state)


def find_checkpoint(name: str, path: Path, suffixes: tuple[str, ...]) -> Path:
    """Returns the checkpoint a path leads to: the file itself, or the one such file of a folder.

    Args:
        name: The zoo's name of the model, for the message.
        path: A file or a folder.
        suffixes: Endings of checkpoint files, the preferred first.

    Raises:
        MissingWeightsError: If the folder has no such file, or several with the same ending.
    """
    if path.is_file():
        return path
    for suffix in suffixes:
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise MissingWeightsError(
                f"The weights of {name!r} were to be read from {path}, which holds several: "
                f"{', '.join(file.name for file in found)}. Set run.encoder_path to one of them."
            )
    raise MissingWeightsError(
        f"The weights of {name!r} were to be read from {path}, but no {' or '.join(suffixes)} file is there."
    )


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(stored, Mapping):
        raise TypeError(f"expected a dictionary of tensors, got {type(stored).__name__}")
    return stored
