"""Where the weights of a model are: inside the package, in a folder of the user's, or on the hub; and are they whole.

Nothing is loaded here. An unknown name is an error that lists the known ones, and weights that are not there are an
error that says where they were looked for and what to do; no model ever starts from random weights instead. Whether
whole weights also *fit* the model of that name is in ``strict_loading``.
"""

import json
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

MODEL_FILES = ("model.safetensors", "pytorch_model.bin")  # what transformers reads, in this order
SAFETENSORS = ".safetensors"
INDEX_ENDING = ".index.json"

Spec = TypeVar("Spec")


class UnknownModelError(ValueError):
    """A model name that is not known; the message lists the known ones."""


class MissingWeightsError(ValueError):
    """Weights that are not where they should be, or do not fit; the message says what was expected and what to do."""


def look_up(kind: str, name: str, specs: Mapping[str, Spec]) -> Spec:
    """Returns the spec of a name; ``kind`` is what the model is, for the message.

    Raises:
        UnknownModelError: If the name is not known.
    """
    if name not in specs:
        raise UnknownModelError(f"There is no {kind} {name!r}. Known names: {', '.join(sorted(specs))}.")
    return specs[name]


def packaged_weights(name: str) -> Path:
    """Returns the folder of mini weights that ship inside the package.

    Raises:
        MissingWeightsError: If the package was built without them.
    """
    folder = Path(str(files("gmail_kedro"))) / "mini" / "weights" / name
    if not folder.is_dir():
        raise MissingWeightsError(f"The packaged mini weights {name!r} are not at {folder}. Make them: make weights")
    return folder


def local_folder(kind: str, name: str, path: str) -> Path:
    """Returns the folder, or file, that a configuration points at.

    Raises:
        MissingWeightsError: If it is not there.
    """
    folder = Path(path)
    if not folder.exists():
        raise MissingWeightsError(
            f"The weights of the {kind} {name!r} were to be read from {folder}, which is not there. "
            f"Correct the path, or set it to null to use the published weights."
        )
    return folder


def fetch_from_hub(kind: str, name: str, hub_id: str, *, files: str) -> Path:
    """Returns the local copy of the files of a hub repository that match a pattern, fetched if not there yet.

    Raises:
        MissingWeightsError: If the hub cannot be reached or does not have it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[files]))
    except Exception as error:  # one of a dozen of network, hub and permission; which one is in the message
        raise MissingWeightsError(
            f"The weights of the {kind} {name!r} could not be fetched from {hub_id} ({type(error).__name__}). Download "
            f"them where there is a network and set run.{kind}_path to the file or its folder."
        ) from error


def find_checkpoint(name: str, path: Path, suffixes: tuple[str, ...], *, own: str = "") -> Path:
    """Returns the checkpoint a path leads to: the file itself, or the one of a folder with one of the endings.

    Endings are in order of preference. Hubs keep one model's weights in several formats side by side, so files whose
    names begin with the family's ``own`` word come first.

    Raises:
        MissingWeightsError: If the folder has no such file, or several with the same ending, or it is cut short.
    """
    if not path.is_file():
        path = _choose_checkpoint(name, path, suffixes, own)
    if flaw := find_file_flaw(path):
        raise MissingWeightsError(
            f"The weights of {name!r} could not be loaded from {path}: {flaw}. Download or copy the file again."
        )
    return path


def _choose_checkpoint(name: str, folder: Path, suffixes: tuple[str, ...], own: str) -> Path:
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


def find_file_flaw(path: Path) -> str:
    """Returns what keeps a checkpoint file from being loaded, or nothing: it is not there, empty or cut short."""
    if not path.is_file():
        return f"{path.name} is not there"
    if path.stat().st_size == 0:
        return f"{path.name} is empty"
    if path.suffix == SAFETENSORS:
        # The header states where every tensor lies, and opening compares that with the length of the file.
        try:
            read_shapes(path)
        except Exception as error:
            return f"{path.name} is damaged or cut short ({error})"
        return ""
    # torch.save writes a zip archive, whose directory is at its end: a file that was cut short has lost it.
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"  # older versions of torch wrote none
    return f"{path.name} is damaged or cut short" if is_archive and not zipfile.is_zipfile(path) else ""


def find_folder_flaw(folder: Path, names: tuple[str, ...]) -> str:
    """Returns what keeps the weights in a folder from being loaded, or nothing.

    The names are those of weight files that are read, the preferred first; each may be cut into shards with an index.
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


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Returns the shapes of the tensors in a safetensors file, by name, from its header; no tensor is read.

    Raises:
        SafetensorError: If the file is damaged or cut short.
    """
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def reason_of(error: Exception) -> str:
    """Returns in one line why a library could not load a model."""
    if "trust_remote_code" in str(error):  # the library's advice would be to turn it on, which we never do
        return "its files ask for code of their own to be run, which is never done"
    return " ".join(str(error).split()).rstrip(".")


def mute_transformers() -> None:
    """Turns off the bars and remarks that transformers prints for every model it loads."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
