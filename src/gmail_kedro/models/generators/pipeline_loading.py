"""Loads a diffusers pipeline part by part, so that no part is left with weights that came from no file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.generators.pipeline_files import list_parts
from gmail_kedro.models.strict_loading import refuse_partial_load
from gmail_kedro.models.weight_sources import MissingWeightsError, mute_transformers, reason_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load_pipeline(name: str, folder: Path, *, dtype: torch.dtype) -> "DiffusionPipeline":
    """Returns a pipeline from its folder; the autoencoder is held in float32.

    diffusers itself leaves the parts that are transformers' with random or unwritten weights where the file lacks
    them, and says nothing.

    Args:
        name: The zoo's name of the generator, for messages.
        folder: As ``save_pretrained`` writes it.
        dtype: Of the weights.

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
    unseen = [
        part for part, value in pipeline.components.items() if isinstance(value, torch.nn.Module) and part not in parts
    ]
    if unseen:
        raise MissingWeightsError(
            f"The parts {unseen} of the generator {name!r} in {folder} are models of neither transformers nor "
            "diffusers, so nobody can say whether their weights fit. Give a pipeline of these two libraries."
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_part(name: str, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Returns a model with every tensor from its file, or a tokenizer or image processor."""
    try:
        if not _is_model_class(kind):
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **{"torch_dtype" if kind.__module__.startswith("diffusers.models") else "dtype": dtype},
        )
    except Exception as error:
        raise _unloadable(name, folder, error) from error
    refuse_partial_load(name, model, loading, source=str(folder))
    return model


def _class_of(library: str, kind: str) -> Any:
    """Returns the class of a part that is loaded here; None for what diffusers loads right by itself."""
    import diffusers
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(homes.get(library) or getattr(diffusers.pipelines, library, None), kind, None)
    return found if library != "diffusers" or _is_model_class(found) else None


def _is_model_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def _unloadable(name: str, folder: Path, error: Exception) -> MissingWeightsError:
    return MissingWeightsError(
        f"The weights of {name!r} could not be loaded from {folder}: {reason_of(error)}. Expected what diffusers' "
        "save_pretrained writes there, whole; download the folder again."
    )
