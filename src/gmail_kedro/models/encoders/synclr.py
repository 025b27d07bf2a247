"""SynCLR: vision transformers that learnt from generated images alone (Tian et al., CVPR 2024); they read no text.

The paper's counterpoint: an encoder for which generated images are home and real ones the shift. A checkpoint holds
the whole of training; only the weights below ``visual.`` are the tower.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.models.encoders.open_clip_encoder import TIMM_VIT, TimmTower, resolve_preprocessing
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.fingerprints import hash_model
from gmail_kedro.models.strict_loading import load_strictly, read_state_dict, refuse_other_sizes
from gmail_kedro.models.weight_sources import MissingWeightsError, find_checkpoint

CONFIG_FILE = "config.json"
CHECKPOINT_SUFFIXES, OWN_FILES = (".safetensors", ".pth"), "synclr"
PREFIX, MASK_TOKEN = "visual.", "mask_token"
TRAINING_TEMPERATURE = 0.1


def load_synclr(name: str, path: Path, *, architecture: str, pretrained: str, device: torch.device) -> TowerEncoder:
    """Returns an encoder of a SynCLR checkpoint: the class token after the final norm, not projected.

    ``architecture`` is timm's name. Where the checkpoint's folder has a ``config.json``, architecture and image size
    are the folder's. ``pretrained`` is not used: the checkpoints are on no hub.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit.
    """
    import timm
    from open_clip.transform import image_transform_v2

    checkpoint, config = inspect_synclr(name, path, architecture=architecture, pretrained=pretrained)
    trunk: Any = timm.create_model(config["architecture"], num_classes=0, global_pool="token")
    load_strictly(name, trunk, _image_tower(read_state_dict(name, checkpoint)), source=str(checkpoint))
    side = config.get("image_size") or trunk.default_cfg["input_size"][-1]
    preprocessing = resolve_preprocessing(side, {})  # CLIP's mean and deviation, with which SynCLR was trained
    tower = TimmTower(trunk).to(device).eval().requires_grad_(False)
    return TowerEncoder(
        name,
        image_tower=tower,
        text_tower=None,
        projection=None,
        pooled_dim=tower.pooled_dim,
        logit_scale=1 / TRAINING_TEMPERATURE,
        logit_bias=None,
        preprocess=image_transform_v2(preprocessing, is_train=False),
        tokenizer=None,
        family=TIMM_VIT,
        fingerprint=hash_model(
            tower.state_dict(), configuration=config["architecture"], preprocessing=asdict(preprocessing)
        ),
    )


def inspect_synclr(name: str, path: Path, *, architecture: str, pretrained: str) -> tuple[Path, dict[str, Any]]:
    """Returns the checkpoint that a path leads to and its model's architecture and image size; nothing is loaded.

    Raises:
        MissingWeightsError: If the weights are not there, not whole, or of another architecture than the name's.
    """
    checkpoint = find_checkpoint(name, path, CHECKPOINT_SUFFIXES, own=OWN_FILES)
    file = checkpoint.parent / CONFIG_FILE
    config = json.loads(file.read_text()) if file.is_file() else {}
    if "architecture" not in config:
        if not architecture:
            raise MissingWeightsError(
                f"The encoder {name!r} was to be read from {path}, but {file} is not there, or does not name timm's "
                "architecture."
            )
        return checkpoint, {"architecture": architecture}
    refuse_other_sizes(name, file, found=config, promised={"architecture": architecture} if architecture else {})
    return checkpoint, config


def _image_tower(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the image tower's weights by timm's names, without what only its training used."""
    visual = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    return {key: value for key, value in visual.items() if key != MASK_TOKEN}
