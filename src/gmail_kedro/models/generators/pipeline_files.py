"""Folders of diffusers pipelines: which parts they list, and what keeps one from being loaded, by a look at files."""

import json
from pathlib import Path

from gmail_kedro.models.weight_sources import find_folder_flaw

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
    """Returns what keeps a folder from being loaded as a pipeline, or nothing.

    Args:
        folder: The folder.
        pipeline: Name of the pipeline class that is wanted.
    """
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

    return kind in dir(diffusers)
