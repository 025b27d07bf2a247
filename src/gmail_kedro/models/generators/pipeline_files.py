"""Folders of diffusers pipelines: what keeps one from being loaded, by a look at files, and how one is loaded.

Part by part, because diffusers leaves parts that are transformers' models with random or unwritten weights where the
file lacks them, and says nothing.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.strict_loading import load_whole
from gmail_kedro.models.weight_sources import MissingWeightsError, find_folder_flaw, mute_transformers, reason_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

INDEX_FILE, CONFIG_FILE = "model_index.json", "config.json"
DIFFUSERS = "diffusers"
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")


def list_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """Returns library and class of every part that a pipeline's index lists and does not leave out."""
    listed = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    return {
        name: (value[0], value[1])
        for name, value in listed.items()
        if isinstance(value, list) and len(value) == 2 and value[0] is not None
    }


def find_pipeline_flaw(folder: Path, pipeline: str) -> str:
    """Returns what keeps a folder from being loaded as a pipeline of the named class, or nothing."""
    if not folder.exists():
        return "not there"
    if not (folder / INDEX_FILE).is_file():
        return f"no {INDEX_FILE}"
    try:
        parts, kind = list_parts(folder), json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{INDEX_FILE} is damaged ({error!r})"
    if kind != pipeline:
        return f"it holds a {kind}, not a {pipeline}"
    flaws = ((part, _find_part_flaw(folder / part, *home)) for part, home in parts.items())
    return next((f"its {part}: {flaw}" for part, flaw in flaws if flaw), "")


def _find_part_flaw(folder: Path, library: str, kind: str) -> str:
    if not folder.is_dir() or not any(child.is_file() for child in folder.iterdir()):
        return "no files"
    if library == DIFFUSERS and not _is_known(kind):
        return f"diffusers has no {kind}"
    if (folder / CONFIG_FILE).is_file():
        return find_folder_flaw(folder, (f"{'diffusion_pytorch_' if library == DIFFUSERS else ''}model.safetensors",))
    if "Tokenizer" in kind and not any((folder / name).is_file() for name in VOCABULARIES):
        return f"none of {', '.join(VOCABULARIES)}"
    return ""


def _is_known(kind: str) -> bool:
    import diffusers

    return kind in dir(diffusers)  # its lazy modules list every class before they import any


def load_pipeline(name: str, folder: Path, *, dtype: torch.dtype) -> "DiffusionPipeline":
    """Returns a pipeline from its folder, every tensor of which came from there; the autoencoder is in float32.

    Raises:
        MissingWeightsError: If a part cannot be loaded, or a tensor of one did not come from its file.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    mute_transformers()
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()  # it would print every cut prompt; ours are counted
    parts = {}
    for part, home in list_parts(folder).items():
        kind = _class_of(*home)
        if kind is not None:
            # A pixel has eight bits, as many as bfloat16 keeps: the autoencoder stays in float32.
            wanted = torch.float32 if part == "vae" else dtype
            parts[part] = _load_part(f"{name} (its {part})", kind, folder / part, wanted)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, **parts
        )
    except Exception as error:
        raise _unloadable(name, folder, error) from error
    unchecked = [
        part for part, value in pipeline.components.items() if isinstance(value, torch.nn.Module) and part not in parts
    ]
    if unchecked:
        raise MissingWeightsError(
            f"The parts {unchecked} of the generator {name!r} in {folder} are models of neither transformers nor "
            "diffusers, so nobody can say whether their weights fit. Give a pipeline of these two libraries."
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_part(name: str, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Returns a model with every tensor from its file, or a tokenizer or image processor."""
    try:
        if not _is_model_class(kind):
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # diffusers says torch_dtype where transformers says dtype.
        precision: dict[str, Any] = {
            "torch_dtype" if kind.__module__.startswith("diffusers.models") else "dtype": dtype
        }
        return load_whole(kind, name, folder, local_files_only=True, use_safetensors=True, **precision)
    except MissingWeightsError:
        raise
    except Exception as error:
        raise _unloadable(name, folder, error) from error


def _class_of(library: str, kind: str) -> Any:
    """Returns the class of a part that is loaded here; None for schedulers, which diffusers loads right by itself."""
    import diffusers
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(homes.get(library) or getattr(diffusers.pipelines, library, None), kind, None)
    return found if library != DIFFUSERS or _is_model_class(found) else None


def _is_model_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def _unloadable(name: str, folder: Path, error: Exception) -> MissingWeightsError:
    return MissingWeightsError(
        f"The weights of {name!r} could not be loaded from {folder}: {reason_of(error)}. Expected what diffusers' "
        "save_pretrained writes there, whole; download the folder again."
    )
