"""Encoders by name, and how one is loaded.

    teacher = build_encoder("clip_vit_b_32", None, device=torch.device("cuda"))
    embeddings = teacher.encode_image(torch.stack([teacher.preprocess(image) for image in images]))  # [B, D]

Four families share one class (``towers.TowerEncoder``): CLIP and SigLIP (``open_clip_encoder``), ``long_clip``, SynCLR
and CLIP's vision tower (both ``vision_only``). Each has a function that loads a model and one that only inspects its
files; both take the name, a local path (None is the published source), and of the spec below ``architecture`` and
``pretrained``. For what alignment made of an encoder see ``student.take_route``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gmail_kedro.models.encoders.long_clip import inspect_long_clip, load_long_clip
from gmail_kedro.models.encoders.open_clip_encoder import inspect_open_clip, load_open_clip
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.encoders.vision_only import inspect_clip_vision, inspect_synclr, load_clip_vision, load_synclr
from gmail_kedro.models.weight_sources import MissingWeightsError, local_folder, look_up, packaged_weights
from gmail_kedro.params.run import RunParams

SYNCLR_HOME = "the SynCLR page of google-research/syn-rep-learn"


@dataclass(frozen=True)
class EncoderSpec:
    """Where an encoder comes from.

    Attributes:
        load: The family's loader.
        packaged: Folder of mini weights inside the package, or empty.
        architecture: The library's name of the architecture, which a folder must be of; empty where it says it.
        pretrained: open_clip's tag, or a hub repository.
        download: Where a person downloads weights that are on no hub, or empty.
    """

    load: Callable[..., TowerEncoder]
    packaged: str = ""
    architecture: str = ""
    pretrained: str = ""
    download: str = ""


ENCODERS = {
    "mini_clip": EncoderSpec(load_open_clip, packaged="clip"),
    "mini_long_clip": EncoderSpec(load_long_clip, packaged="long_clip"),
    "mini_siglip": EncoderSpec(load_open_clip, packaged="siglip"),
    "mini_synclr": EncoderSpec(load_synclr, packaged="synclr"),
    "mini_clip_vision": EncoderSpec(load_clip_vision, packaged="clip_vision"),
    # OpenAI trained with the quick form of GELU; without "-quickgelu" open_clip builds the exact one, and warns only.
    "clip_vit_b_32": EncoderSpec(load_open_clip, architecture="ViT-B-32-quickgelu", pretrained="openai"),
    "clip_vit_b_16": EncoderSpec(load_open_clip, architecture="ViT-B-16-quickgelu", pretrained="openai"),
    "clip_vit_l_14": EncoderSpec(load_open_clip, architecture="ViT-L-14-quickgelu", pretrained="openai"),
    "clip_vit_l_14_336": EncoderSpec(load_open_clip, architecture="ViT-L-14-336-quickgelu", pretrained="openai"),
    "long_clip_b": EncoderSpec(load_long_clip, architecture="ViT-B-16-quickgelu", pretrained="BeichenZhang/LongCLIP-B"),
    "long_clip_l": EncoderSpec(load_long_clip, architecture="ViT-L-14-quickgelu", pretrained="BeichenZhang/LongCLIP-L"),
    "siglip_vit_b_16": EncoderSpec(load_open_clip, architecture="ViT-B-16-SigLIP", pretrained="webli"),
    "siglip_vit_b_16_256": EncoderSpec(load_open_clip, architecture="ViT-B-16-SigLIP-256", pretrained="webli"),
    "siglip_vit_b_16_384": EncoderSpec(load_open_clip, architecture="ViT-B-16-SigLIP-384", pretrained="webli"),
    "siglip_so400m_14_384": EncoderSpec(load_open_clip, architecture="ViT-SO400M-14-SigLIP-384", pretrained="webli"),
    "synclr_vit_b_16": EncoderSpec(load_synclr, architecture="vit_base_patch16_224", download=SYNCLR_HOME),
    "synclr_vit_l_14": EncoderSpec(load_synclr, architecture="vit_large_patch14_224", download=SYNCLR_HOME),
    "clip_vision_b_32": EncoderSpec(
        load_clip_vision, architecture="ViT-B-32-quickgelu", pretrained="openai/clip-vit-base-patch32"
    ),
    "clip_vision_l_14_336": EncoderSpec(
        load_clip_vision, architecture="ViT-L-14-336-quickgelu", pretrained="openai/clip-vit-large-patch14-336"
    ),
}
INSPECTORS: dict[Callable[..., TowerEncoder], Callable[..., object]] = {
    load_open_clip: inspect_open_clip,
    load_long_clip: inspect_long_clip,
    load_synclr: inspect_synclr,
    load_clip_vision: inspect_clip_vision,
}


def build_encoder(name: str, path: str | None, *, device: torch.device) -> TowerEncoder:
    """Returns a frozen encoder in eval mode.

    Args:
        name: A key of ``ENCODERS``.
        path: A local folder in the family's layout, a checkpoint file of the architecture, or None for the published
            weights.
        device: Where the model goes.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are not there or do not fit; says what was looked for.
    """
    spec, home = find_encoder(name, path)
    return spec.load(name, home, architecture=spec.architecture, pretrained=spec.pretrained, device=device)


def build_teacher(run: RunParams, device: torch.device) -> TowerEncoder:
    """Returns the encoder that a run names, a new one each time: ``take_route`` and training change theirs in place."""
    return build_encoder(run.encoder, run.encoder_path, device=device)


def find_encoder(name: str, path: str | None) -> tuple[EncoderSpec, Path | None]:
    """Returns the spec of an encoder, and where its weights are on this machine; None for the hub.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the path is not there, or a path is needed and none is given.
    """
    spec = look_up("encoder", name, ENCODERS)
    if path is not None:
        return spec, local_folder("encoder", name, path)
    if spec.download:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} are on no hub. Download them from {spec.download} and set "
            "run.encoder_path to the file."
        )
    return spec, packaged_weights(spec.packaged) if spec.packaged else None


def find_encoder_flaw(name: str, place: Path) -> str:
    """Returns what keeps an encoder from being loaded from a folder or file, or nothing; no weights are read."""
    spec = look_up("encoder", name, ENCODERS)
    if not place.exists():
        return "not there"
    try:
        INSPECTORS[spec.load](name, place, architecture=spec.architecture, pretrained=spec.pretrained)
    except MissingWeightsError as error:
        return str(error)
    return ""
