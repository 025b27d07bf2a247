"""Does a model fit its name: the sizes that the name promises, and every tensor of the architecture in its shape.

Two tests, one rule. Before anything is loaded, the *configuration* that lies beside the weights is held against the
sizes of the name: a table names its rows after models, and whatever loads without a flaw but is another model would
stand in it under a wrong name. Then each *tensor* of the architecture must have come from the file, in its shape, and
the file must have held nothing else. PyTorch, transformers and PEFT only warn about either, and go on with random
weights in the gaps. Mini models promise no sizes: their folders say what they are.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.models.weight_sources import MissingWeightsError, reason_of

Sizes = Mapping[str, Any]  # by name; empty where nothing is promised
LISTED_SIZES, LISTED_TENSORS = 4, 3
# What tells CLIPs from one another. An activation changes no size: the fingerprint tells those apart.
IMAGE_SIZES = ("width", "layers", "patch_size", "image_size", "head_width", "timm_model_name")
TEXT_SIZES = ("width", "layers", "context_length", "vocab_size", "heads", "hf_model_name")
LANGUAGE_SIZES = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size")

WRAPPERS = ("module.", "_orig_mod.")  # of distributed and of compiled models
REMEDY = "Give the whole weights of this model, or the name of the model they belong to."
UNWRAP = f"They were saved out of a wrapper: take {' or '.join(WRAPPERS)} off the names."
OLD_BUFFERS = ("position_ids", "rotary_emb.inv_freq", "attn.masked_bias")  # stored by older versions, computed today


def refuse_other_sizes(name: str, source: str | Path, *, found: Sizes, promised: Sizes) -> None:
    """Refuses a model that is not of the sizes its name promises.

    Sizes that ``found`` does not have are passed over; ``source`` says where the model is.

    Raises:
        MissingWeightsError: If one differs; counts those that do and lists the first, of both.
    """
    others = [
        f"{size} {found[size]} instead of {value}"
        for size, value in promised.items()
        if size in found and found[size] != value
    ]
    if others:
        raise MissingWeightsError(
            f"The model in {source} is not {name!r}, but of another architecture: {len(others)} of its sizes differ "
            f"({_first(others, LISTED_SIZES)}). Give the weights of {name!r}, or the name of the model they belong to."
        )


def clip_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes of a CLIP or SigLIP by open_clip's ``model_cfg``, its defaults filled in."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    image, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    return (
        {f"image tower's {size}": getattr(image, size) for size in IMAGE_SIZES}
        | {f"text tower's {size}": getattr(text, size) for size in TEXT_SIZES}
        | {"embed_dim": config["embed_dim"]}
    )


def named_clip_sizes(architecture: str) -> dict[str, Any]:
    """Returns the sizes of one of open_clip's architectures; none for the empty name of a mini model."""
    import open_clip

    return clip_sizes(open_clip.get_model_config(architecture)) if architecture else {}


def clip_vision_sizes(config: Any, projection: int | None = None) -> dict[str, Any]:
    """Returns the sizes of transformers' ``CLIPVisionConfig``, in the words of ``clip_sizes``.

    ``projection`` is the width of the embeddings, or None where the tower is used without its projection.
    """
    sizes = {"image_size": config.image_size, "patch_size": config.patch_size}
    sizes |= {"width": config.hidden_size, "layers": config.num_hidden_layers}
    found = {f"image tower's {size}": value for size, value in sizes.items()}
    return found if projection is None else found | {"embed_dim": projection}


def language_sizes(config: Any) -> dict[str, Any]:
    """Returns the sizes of a transformers configuration of a language model."""
    return {size: getattr(config, size, None) for size in LANGUAGE_SIZES}


def read_state_dict(name: str, path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint, float32, out of whatever they were wrapped in.

    Wrappers ``state_dict`` and ``model`` and the prefixes ``module.`` and ``_orig_mod.`` are taken off.

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
    # Trainers save their whole state; the weights are one entry of it.
    for wrapper in ("state_dict", "model"):
        if isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    tensors = {_unwrap(key): value for key, value in stored.items() if torch.is_tensor(value)}
    # Some checkpoints are published in float16; the model decides its precision, not the file.
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load_strictly(name: str, model: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Loads a state, by the model's own names, into a model if every name and every shape agrees.

    Raises:
        MissingWeightsError: If names or shapes differ; counts them and lists the first few.
    """
    # Before torch does: its error lists hundreds of names, and neither the file nor what to do.
    refuse_other_shapes(name, shapes_of(model.state_dict()), shapes_of(state), source=source)
    model.load_state_dict(state)


def load_file_strictly(name: str, model: torch.nn.Module, path: Path) -> None:
    """Loads a file into a model if every name and every shape agrees; see ``load_strictly``."""
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
    """Refuses tensors whose names and shapes, ``found`` in a file, are not those that a model expects.

    Raises:
        MissingWeightsError: If names or shapes differ; counts them and lists the first few.
    """
    _refuse_gaps(
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


def load_whole(kind: Any, name: str, source: str | Path, *, passed_over: tuple[str, ...] = (), **options: Any) -> Any:
    """Returns a model of a transformers or diffusers class, every tensor of which came from its files.

    Args:
        kind: The class.
        name: Name of the model, for the message.
        source: A folder or hub repository.
        passed_over: Beginnings of names that belong to a part of the file's model which this one does not have.
        **options: Of ``from_pretrained``.

    Raises:
        MissingWeightsError: If tensors are missing, of another shape, or without a place in the model.
        Exception: Whatever the library raises if nothing can be loaded from there.
    """
    model, loading = kind.from_pretrained(
        source,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are listed with the others and not raised one by one
        trust_remote_code=False,
        **options,
    )
    # The library's own account is read, not the files' names: both libraries read files with older names.
    unexpected = [
        key for key in loading["unexpected_keys"] if not key.endswith(OLD_BUFFERS) and not key.startswith(passed_over)
    ]
    misshapen = [f"{key} {list(found)} instead of {list(wanted)}" for key, found, wanted in loading["mismatched_keys"]]
    _refuse_gaps(
        name,
        str(source),
        count=len(model.state_dict()),
        missing=loading["missing_keys"],
        unexpected=unexpected,
        misshapen=misshapen,
    )
    return model


def _refuse_gaps(
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
        f"{len(keys)}{of} {kind} ({_first(sorted(keys), LISTED_TENSORS)})"
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


def _first(words: list[str], count: int) -> str:
    return f"{', '.join(words[:count])}{', ...' if len(words) > count else ''}"


def _unwrap(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.split(".", 1)[1]
    return key


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # A pickle may run any code on being read; weights_only takes tensors and containers and refuses the rest.
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(stored, Mapping):
        raise TypeError(f"expected a dictionary of tensors, got {type(stored).__name__}")
    return stored
