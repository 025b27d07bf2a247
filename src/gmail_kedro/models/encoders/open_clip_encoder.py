"""CLIP and SigLIP on open_clip's classes: from a hub tag, a checkpoint file or a local folder.

Weights alone do not make a model: the same tensors under another activation or another preprocessing give other
embeddings. So everything that open_clip fills in by itself is resolved here and goes into the fingerprint. Two kinds
of image tower come out: open_clip's own vision transformer (CLIP) and timm's (SigLIP, and SynCLR in ``vision_only``).
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.encoders.towers import TowerEncoder, TowerFamily, find_part
from gmail_kedro.models.fingerprints import hash_model
from gmail_kedro.models.strict_loading import (
    clip_sizes,
    load_strictly,
    named_clip_sizes,
    read_state_dict,
    refuse_other_sizes,
)
from gmail_kedro.models.weight_sources import MissingWeightsError, find_checkpoint, reason_of

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from open_clip.transform import PreprocessCfg

CONFIG_FILE = "open_clip_config.json"
CHECKPOINT_SUFFIXES, OWN_FILES = (".safetensors", ".bin", ".pt", ".pth"), "open_clip_"
# How the parts are packed, and where first weights and tokens would come from; neither changes an output.
NOT_BUILT = ("custom_text", "timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name")


@dataclass(frozen=True)
class OpenClipSource:
    """What open_clip knows about a model apart from its weights.

    Attributes:
        config: Its ``model_cfg``.
        preprocessing: Its ``preprocess_cfg``; what it leaves out is as in OpenAI's CLIP.
        identifier: The name its tokenizer is found by.
    """

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    identifier: str


def load_open_clip(
    name: str, path: Path | None, *, architecture: str, pretrained: str, device: torch.device
) -> TowerEncoder:
    """Returns an encoder of a CLIP or SigLIP; see ``known_encoders`` for the arguments.

    Without a path the weights are those of open_clip's tag ``pretrained``. A path is a folder in open_clip's hub
    layout, or a checkpoint file with the configuration beside it, or else of the architecture.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit, or the image tower is no plain vision
            transformer.
    """
    try:
        if path is None:
            return _load_tag(name, architecture, pretrained, device)
        checkpoint, source = inspect_open_clip(name, path, architecture=architecture, pretrained=pretrained)
        model = build_clip(source.config)
        load_strictly(name, model, adapt_names(model, read_state_dict(name, checkpoint)), source=str(checkpoint))
        return assemble(name, model.to(device), source, find_tokenizer(source))
    except MissingWeightsError:
        raise
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {path or f'{architecture} ({pretrained})'}: "
            f"{reason_of(error)}. Put them in a local folder ({CONFIG_FILE}, open_clip_model.safetensors and "
            "the tokenizer) and set run.encoder_path to it."
        ) from error


def inspect_open_clip(name: str, path: Path, *, architecture: str, pretrained: str) -> tuple[Path, OpenClipSource]:
    """Returns the checkpoint that a path leads to and what is known about its model; nothing is loaded.

    Raises:
        MissingWeightsError: If the weights are not there, not whole, or of another architecture than the name's.
    """
    source = read_source(name, path, architecture, pretrained)
    return find_checkpoint(name, path, CHECKPOINT_SUFFIXES, own=OWN_FILES), source


def _load_tag(name: str, architecture: str, pretrained: str, device: torch.device) -> TowerEncoder:
    import open_clip

    # By default open_clip only warns about missing weights and goes on with random ones.
    model = open_clip.create_model(
        architecture, pretrained=pretrained, device=device, require_pretrained=True, force_custom_text=True
    )
    source = _architecture_source(architecture, pretrained)
    return assemble(name, model, source, find_tokenizer(source))


def _architecture_source(architecture: str, pretrained: str) -> OpenClipSource:
    import open_clip

    preprocessing = open_clip.pretrained.get_pretrained_cfg(architecture, pretrained)
    return OpenClipSource(deepcopy(open_clip.get_model_config(architecture)), preprocessing, architecture)


def read_source(
    name: str, path: Path, architecture: str, pretrained: str = "", *, context_length: int | None = None
) -> OpenClipSource:
    """Returns what is known about a local model: from the configuration in its folder, or by its architecture.

    The tag ``pretrained`` decides the preprocessing of an architecture; ``context_length`` is the longest text of the
    family, where it is not the configuration's.

    Raises:
        MissingWeightsError: If there is neither a configuration nor an architecture, or the two are different models.
    """
    folder = path if path.is_dir() else path.parent
    stretched = {} if context_length is None else {"context_length": context_length}
    if (folder / CONFIG_FILE).is_file():
        source = OpenClipSource(*_read_config(name, folder / CONFIG_FILE), f"local-dir:{folder}")
    elif architecture and (path.is_file() or not pretrained):
        source = _architecture_source(architecture, pretrained)
    else:
        raise MissingWeightsError(
            f"The encoder {name!r} was to be read from {path}, but {folder / CONFIG_FILE} is not there. "
            "Expected a folder in open_clip's hub layout, or a checkpoint file of the architecture."
        )
    source.config["text_cfg"] = source.config["text_cfg"] | stretched
    promised = named_clip_sizes(architecture) | {f"text tower's {size}": value for size, value in stretched.items()}
    refuse_other_sizes(name, folder / CONFIG_FILE, found=clip_sizes(source.config), promised=promised)
    return source


def _read_config(name: str, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns ``model_cfg`` and ``preprocess_cfg`` of a configuration file."""
    try:
        stored = json.loads(file.read_text())
        config, preprocessing = stored["model_cfg"], stored.get("preprocess_cfg", {})
        clip_sizes(config)
        fetched = config["text_cfg"].get("hf_model_name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingWeightsError(
            f"The encoder {name!r} cannot be read by {file}: {error!r}. Expected open_clip's configuration, with "
            "model_cfg, vision_cfg and text_cfg."
        ) from error
    if fetched:  # open_clip would ask the hub for it, and run code that stands there
        raise MissingWeightsError(
            f"The encoder {name!r} has in {file} a text tower from transformers, {fetched!r}. Give one whose text "
            "tower is open_clip's own."
        )
    return config, preprocessing


def build_clip(config: dict[str, Any]) -> "CustomTextCLIP":
    """Returns an untrained model of a ``model_cfg``, its text tower apart, whatever the layout of its weights."""
    from open_clip import CustomTextCLIP

    config = deepcopy(config)
    config.pop("custom_text", None)
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    return CustomTextCLIP(**config)


def adapt_names(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weights by the names and scalar shapes that the model uses; OpenAI's layout has no ``text.``."""
    from open_clip.model import convert_to_custom_text_state_dict

    state = dict(convert_to_custom_text_state_dict(state))
    # Some releases hold these scalars with a dimension, some without.
    for scalar in ("logit_scale", "logit_bias"):
        expected = getattr(model, scalar, None)
        if scalar in state and expected is not None and state[scalar].numel() == expected.numel():
            state[scalar] = state[scalar].reshape(expected.shape)
    # OpenAI's archives hold these three numbers among the weights.
    return {
        key: value for key, value in state.items() if key not in ("input_resolution", "context_length", "vocab_size")
    }


def resolve_preprocessing(image_size: Any, preprocessing: Mapping[str, Any]) -> "PreprocessCfg":
    """Returns open_clip's preprocessing with its defaults filled in, for images of a model's size."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    return PreprocessCfg(**(merge_preprocess_dict(PreprocessCfg(), dict(preprocessing)) | {"size": image_size}))


def find_tokenizer(source: OpenClipSource, *, context_length: int | None = None) -> Any:
    """Returns open_clip's tokenizer of a model; code that stands beside it is not run."""
    import open_clip

    is_transformers = bool(source.config["text_cfg"].get("hf_tokenizer_name"))
    options = {"trust_remote_code": False} if is_transformers else {}  # open_clip's own takes no such option
    return open_clip.get_tokenizer(source.identifier, context_length=context_length, **options)


def assemble(name: str, model: Any, source: OpenClipSource, tokenizer: Any) -> TowerEncoder:
    """Returns an encoder of open_clip's ``CustomTextCLIP``, or a model with its parts, frozen and taken apart in place.

    Raises:
        ValueError: If the image tower is no plain vision transformer.
    """
    from open_clip.transform import image_transform_v2

    model.eval().requires_grad_(False)
    # The fingerprint is taken before the model is taken apart: it must not depend on what we make of it.
    preprocessing = resolve_preprocessing(model.visual.image_size, source.preprocessing)
    fingerprint = hash_model(
        model.state_dict(),
        configuration=resolve_config(source.config),
        preprocessing=asdict(preprocessing),
        tokenizer=tokenizer,
    )
    image_tower, projection, pooled_dim, family = _take_image_tower(model)
    return TowerEncoder(
        name,
        image_tower=image_tower,
        text_tower=model.text,
        projection=projection,
        pooled_dim=pooled_dim,
        logit_scale=float(model.logit_scale.exp()),  # open_clip stores its logarithm
        logit_bias=None if model.logit_bias is None else float(model.logit_bias),
        preprocess=image_transform_v2(preprocessing, is_train=False),
        tokenizer=tokenizer,
        family=family,
        fingerprint=fingerprint,
    )


def resolve_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of a ``model_cfg`` decides a model's outputs, open_clip's defaults filled in."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    parts = {
        "vision_cfg": asdict(CLIPVisionCfg(**config["vision_cfg"])),
        "text_cfg": asdict(CLIPTextCfg(**config["text_cfg"])),
    }
    for part in parts.values():
        for key in NOT_BUILT:
            part.pop(key, None)
    return {"quick_gelu": False} | {key: config[key] for key in config if key not in NOT_BUILT} | parts


def _take_image_tower(model: Any) -> tuple[torch.nn.Module, torch.Tensor | None, int, TowerFamily]:
    """Takes a model's image tower, changed in place to give pooled features and patch tokens.

    Returns:
        The tower, its projection [W, D] or None, the width W and the family.
    """
    tower = model.visual
    if hasattr(tower, "trunk") and hasattr(tower.trunk, "blocks") and len(tower.head) == 0:
        image_tower = TimmTower(tower.trunk)
        return image_tower, None, image_tower.pooled_dim, TIMM_VIT
    projection = getattr(tower, "proj", None)
    if projection is None or not hasattr(tower, "transformer"):
        raise ValueError(f"its image tower {type(tower).__name__} is no plain vision transformer")
    # The projection is taken out of the tower: real and generated images get a head each in its place.
    tower.proj, tower.output_tokens = None, True
    return tower, projection.detach(), int(projection.shape[0]), OPEN_CLIP_VIT


class TimmTower(torch.nn.Module):
    """timm's ``VisionTransformer`` without its classifier."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooled_dim = int(trunk.num_features)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W]."""
        states = self.trunk.forward_features(images)  # [B, class tokens + P, W]
        return self.trunk.forward_head(states), states[:, self.trunk.num_prefix_tokens :]


# Both libraries build their towers without patch dropout; a module of theirs is put where one would have stood.
def _drop_open_clip_patches(tower: torch.nn.Module, fraction: float) -> None:
    from open_clip.transformer import PatchDropout

    owner = find_part(tower, "patch_dropout")
    owner.patch_dropout = PatchDropout(fraction).train(owner.training)


def _drop_timm_patches(tower: torch.nn.Module, fraction: float) -> None:
    from timm.layers import PatchDropout

    owner: Any = find_part(tower, "patch_drop")
    owner.patch_drop = PatchDropout(fraction, num_prefix_tokens=owner.num_prefix_tokens).train(owner.training)


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    find_part(tower, "grad_checkpointing").grad_checkpointing = True  # type: ignore[assignment]


def _run_prefix(tower: torch.nn.Module, images: torch.Tensor, blocks: int) -> torch.Tensor:
    owner: Any = find_part(tower, "transformer")
    hidden = owner._embeds(images)  # [B, 1 + P, W']
    for block in owner.transformer.resblocks[:blocks]:
        hidden = block(hidden)
    return hidden


def _run_suffix(tower: torch.nn.Module, hidden: torch.Tensor, blocks: int) -> tuple[torch.Tensor, torch.Tensor]:
    owner: Any = find_part(tower, "transformer")
    for block in owner.transformer.resblocks[blocks:]:
        hidden = block(hidden)
    return owner._pool(hidden)  # [B, W], [B, P, W']


OPEN_CLIP_VIT = TowerFamily(
    lora_targets=("attn",),
    block_pattern="resblocks",
    drop_patches=_drop_open_clip_patches,
    checkpoint_activations=_checkpoint_activations,
    run_prefix=_run_prefix,
    run_suffix=_run_suffix,
)
TIMM_VIT = TowerFamily(
    lora_targets=("qkv", "proj", "fc1", "fc2"),
    block_pattern="blocks",
    drop_patches=_drop_timm_patches,
    checkpoint_activations=_checkpoint_activations,
)
