"""Encoders through open_clip: CLIP and what shares its towers, from a hub tag, a checkpoint file or a local folder."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.interfaces import Contrast
from gmail_kedro.zoo.registry import MissingWeightsError, hash_tensors
from gmail_kedro.zoo.towers import Family, Reading, TowerEncoder, Towers, find_part

CONFIG_FILE = "open_clip_config.json"


def load_open_clip(name: str, source: str, pretrained: str | None, *, device: torch.device) -> TowerEncoder:
    """Returns an encoder of a model that open_clip builds.

    The projection is taken out of the image tower, so that the tower ends in pooled features.

    Args:
        name: The zoo's name.
        source: open_clip's name of the architecture, or ``local-dir:`` and a folder.
        pretrained: open_clip's tag of the weights or a checkpoint file; None for a folder.
        device: Where the model goes.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit.
        ValueError: If the image tower is no plain vision transformer.
    """
    import open_clip

    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            source, pretrained=pretrained, device=device, require_pretrained=True, force_custom_text=True
        )
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {source} ({pretrained or 'local folder'}): "
            f"{error}. Put them in a local folder ({CONFIG_FILE} and open_clip_model.safetensors) and set "
            "run.encoder_path to it."
        ) from error
    model.eval().requires_grad_(False)
    fingerprint = hash_model(model, preprocess)
    return TowerEncoder(
        name,
        towers=split_towers(model),
        reading=Reading(preprocess, tokenizer),
        family=OPEN_CLIP_VIT,
        fingerprint=fingerprint,
    )


def hash_model(model: torch.nn.Module, preprocess: object) -> str:
    """Returns a sha256 over a model's state and the words its preprocessing prints."""
    recipe = hashlib.sha256(repr(preprocess).encode()).hexdigest()
    return hashlib.sha256(f"{hash_tensors(model.state_dict())}{recipe}".encode()).hexdigest()


def split_towers(model: Any) -> Towers:
    """Takes an open_clip model apart, in place: its image tower gives pooled features and patch tokens.

    Raises:
        ValueError: If the image tower is no plain vision transformer.
    """
    tower = model.visual
    projection = getattr(tower, "proj", None)
    if projection is None or not hasattr(tower, "transformer"):
        raise ValueError(f"The image tower {type(tower).__name__} is no vision transformer of open_clip's own.")
    tower.proj, tower.output_tokens = None, True
    bias = None if model.logit_bias is None else float(model.logit_bias)
    return Towers(
        image=tower,
        text=model.text,
        projection=projection.detach(),
        contrast=Contrast(scale=float(model.logit_scale.exp()), bias=bias),
        pooled_dim=int(projection.shape[0]),
    )


def _drop_patches(tower: torch.nn.Module, fraction: float) -> None:
    from open_clip.transformer import PatchDropout

    owner = find_part(tower, "patch_dropout")
    owner.patch_dropout = PatchDropout(fraction).train(owner.training)


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    find_part(tower, "grad_checkpointing").grad_checkpointing = True  # type: ignore[assignment]


OPEN_CLIP_VIT = Family(
    lora_targets=("attn",),
    block_pattern="resblocks",
    drop_patches=_drop_patches,
    checkpoint_activations=_checkpoint_activations,
)


def local_source(name: str, folder: Path, architecture: str) -> tuple[str, str | None]:
    """Returns open_clip's model name and pretrained argument for a local path.

    Raises:
        MissingWeightsError: If the path is neither a folder in the hub's layout nor a checkpoint file.
    """
    if (folder / CONFIG_FILE).is_file():
        return f"local-dir:{folder}", None
    if folder.is_file() and architecture:
        return architecture, str(folder)
    raise MissingWeightsError(
        f"The encoder {name!r} was to be read from {folder}, but {folder / CONFIG_FILE} is not there. "
        "Expected a folder in open_clip's hub layout, or a checkpoint file of the architecture."
    )
