"""Image-text encoders by name: which family each belongs to, and where its weights come from."""

from dataclasses import dataclass

import torch

from gmail_kedro.zoo.open_clip_encoder import load_open_clip, local_source
from gmail_kedro.zoo.registry import local_folder, look_up, packaged_weights
from gmail_kedro.zoo.towers import TowerEncoder

OpenClipEncoder = TowerEncoder


@dataclass(frozen=True)
class EncoderSpec:
    """Where an encoder comes from.

    Attributes:
        packaged: Folder of mini weights inside the package, or empty.
        architecture: open_clip's name of the architecture.
        pretrained: open_clip's tag of the weights.
    """

    packaged: str = ""
    architecture: str = ""
    pretrained: str = ""


ENCODERS = {
    "mini_clip": EncoderSpec(packaged="clip"),
    "clip_vit_b_32": EncoderSpec(architecture="ViT-B-32-quickgelu", pretrained="openai"),
    "clip_vit_b_16": EncoderSpec(architecture="ViT-B-16-quickgelu", pretrained="openai"),
    "clip_vit_l_14": EncoderSpec(architecture="ViT-L-14-quickgelu", pretrained="openai"),
    "clip_vit_l_14_336": EncoderSpec(architecture="ViT-L-14-336-quickgelu", pretrained="openai"),
}


def build_encoder(name: str, path: str | None, *, device: torch.device) -> TowerEncoder:
    """Returns a frozen encoder in eval mode.

    Args:
        name: A key of ``ENCODERS``.
        path: A local folder in open_clip's hub layout, a checkpoint file of the architecture, or None for the
            zoo's own source.
        device: Where the model goes.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are not there or do not fit; says what was looked for.
    """
    spec = look_up("encoder", name, ENCODERS)
    source, pretrained = _resolve(name, spec, path)
    return load_open_clip(name, source, pretrained, device=device)


def _resolve(name: str, spec: EncoderSpec, path: str | None) -> tuple[str, str | None]:
    """Returns open_clip's model name and pretrained tag for a spec and an optional local path."""
    if path is not None:
        return local_source(name, local_folder("encoder", name, path), spec.architecture)
    if spec.packaged:
        return f"local-dir:{packaged_weights(spec.packaged)}", None
    return spec.architecture, spec.pretrained
