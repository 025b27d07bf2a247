"""Names of models, and where their weights come from."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

Spec = TypeVar("Spec")


class UnknownModelError(ValueError):
    """A model name that the zoo does not know; the message lists the known ones."""


class MissingWeightsError(ValueError):
    """Weights that are not where they should be; the message says what was looked for and what to do."""


def reason_of(error: Exception) -> str:
    """Returns in one line why a library could not load a model; that code beside weights is not run, in our words."""
    if "trust_remote_code" in str(error):
        return "its files ask for code of their own to be run, which is never done"
    return " ".join(str(error).split()).rstrip(".")


def look_up(kind: str, name: str, specs: Mapping[str, Spec]) -> Spec:
    """Returns the spec of a name.

    Args:
        kind: What the model is, for the message: ``encoder``, ``generator``, ``language model``.
        name: Name of the model.
        specs: The known names.

    Raises:
        UnknownModelError: If the name is not known.
    """
    if name not in specs:
        raise UnknownModelError(f"The zoo has no {kind} {name!r}. Known names: {', '.join(sorted(specs))}.")
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
    """Returns the folder a configuration points at.

    Raises:
        MissingWeightsError: If it is not there.
    """
    folder = Path(path)
    if not folder.exists():
        raise MissingWeightsError(
            f"The weights of the {kind} {name!r} were to be read from {folder}, which is not there. "
            f"Correct the path, or set it to null to use the zoo's own source."
        )
    return folder


def fetch_from_hub(kind: str, name: str, hub_id: str, *, files: str) -> Path:
    """Returns the local copy of a hub repository, fetched when it is not there yet.

    Args:
        kind: What the model is, for the message.
        name: Name of the model.
        hub_id: The repository.
        files: Pattern of the files that are needed.

    Raises:
        MissingWeightsError: If the hub cannot be reached or does not have it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[files]))
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the {kind} {name!r} could not be fetched from {hub_id} ({type(error).__name__}). Download "
            f"them where there is a network and set run.{kind}_path to the file or its folder."
        ) from error


def mute_transformers() -> None:
    """Turns off the bars and remarks that transformers prints for every model it loads."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
