"""The two encoders that read no text: SynCLR, and CLIP's vision tower in transformers' format.

SynCLR's vision transformers learnt from generated images alone (Tian et al., CVPR 2024): the paper's counterpoint, for
which generated images are home and real ones the shift. A checkpoint holds the whole of training; only the weights
below ``visual.`` are the tower.

CLIP's vision tower in transformers' format is the one LLaVA reads images with. Aligned in this format, the tuned tower
goes into a LLaVA key by key (``vision_language.vision_towers``); open_clip's names would have to be translated first.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.encoders.open_clip_encoder import TIMM_VIT, TimmTower, resolve_preprocessing
from gmail_kedro.models.encoders.towers import TowerEncoder, TowerFamily, find_part
from gmail_kedro.models.fingerprints import hash_model, settings_of
from gmail_kedro.models.strict_loading import (
    clip_vision_sizes,
    load_strictly,
    load_whole,
    named_clip_sizes,
    read_state_dict,
    refuse_other_sizes,
)
from gmail_kedro.models.weight_sources import (
    MODEL_FILES,
    MissingWeightsError,
    find_checkpoint,
    find_folder_flaw,
    mute_transformers,
    reason_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

SYNCLR_CONFIG = "config.json"
SYNCLR_SUFFIXES, SYNCLR_FILES = (".safetensors", ".pth"), "synclr"
SYNCLR_PREFIX, MASK_TOKEN = "visual.", "mask_token"
SYNCLR_TEMPERATURE = 0.1  # of its training

CLIP_VISION_FOLDER = "a folder with config.json, model.safetensors and preprocessor_config.json"
TEXT_SIDE = ("text_model.", "text_projection.", "logit_scale")  # files of a whole CLIP are published, and read
VISION_FEATURE_LAYER = -2  # LLaVA's: the last layer serves the class token, the one before keeps more of each patch
UNSEEN = ("hidden_act", "num_attention_heads", "layer_norm_eps")  # change what a tower gives, and no tensor's shape
OPENAI_LOGIT_SCALE = 100.0  # where every CLIP of OpenAI ended training; the format has no place for it


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
    load_strictly(name, trunk, _synclr_tower(read_state_dict(name, checkpoint)), source=str(checkpoint))
    side = config.get("image_size") or trunk.default_cfg["input_size"][-1]
    preprocessing = resolve_preprocessing(side, {})  # CLIP's mean and deviation, with which SynCLR was trained
    tower = TimmTower(trunk).to(device).eval().requires_grad_(False)
    return TowerEncoder(
        name,
        image_tower=tower,
        text_tower=None,
        projection=None,
        pooled_dim=tower.pooled_dim,
        logit_scale=1 / SYNCLR_TEMPERATURE,
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
    checkpoint = find_checkpoint(name, path, SYNCLR_SUFFIXES, own=SYNCLR_FILES)
    file = checkpoint.parent / SYNCLR_CONFIG
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


def _synclr_tower(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the image tower's weights by timm's names, without what only its training used."""
    visual = {key.removeprefix(SYNCLR_PREFIX): value for key, value in state.items() if key.startswith(SYNCLR_PREFIX)}
    return {key: value for key, value in visual.items() if key != MASK_TOKEN}


class ClipVisionTower(torch.nn.Module):
    """transformers' ``CLIPVisionModel``, with the patch tokens that LLaVA reads: layer -2, class token left out."""

    def __init__(self, vision: Any) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W]."""
        output = self.vision(images, output_hidden_states=True)
        return output.pooler_output, output.hidden_states[VISION_FEATURE_LAYER][:, 1:]  # [B, W], [B, P, W]


def load_clip_vision(
    name: str, path: Path | None, *, architecture: str, pretrained: str, device: torch.device
) -> TowerEncoder:
    """Returns an encoder of transformers' ``CLIPVisionModelWithProjection``.

    ``architecture`` is open_clip's name of the CLIP it belongs to, empty for a mini model; ``pretrained`` is the hub
    repository.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    if path is not None:
        inspect_clip_vision(name, path, architecture=architecture, pretrained=pretrained)
    source = pretrained if path is None else str(path)
    mute_transformers()
    try:
        model = load_whole(CLIPVisionModelWithProjection, name, source, passed_over=TEXT_SIDE, dtype=torch.float32)
        processor = CLIPImageProcessor.from_pretrained(source, trust_remote_code=False)
    except MissingWeightsError:
        raise
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {source}: {reason_of(error)}. "
            f"Expected {CLIP_VISION_FOLDER}; set run.encoder_path to it."
        ) from error
    model = model.to(device).eval().requires_grad_(False)
    projection = model.visual_projection.weight.detach().T
    preprocess = Preprocess(processor)
    return TowerEncoder(
        name,
        image_tower=ClipVisionTower(model.vision_model),
        text_tower=None,
        projection=projection,
        pooled_dim=len(projection),
        logit_scale=OPENAI_LOGIT_SCALE,
        logit_bias=None,
        preprocess=preprocess,
        tokenizer=None,
        family=CLIP_VISION,
        fingerprint=hash_model(
            model.state_dict(), configuration=settings_of(model.config), preprocessing=preprocess.settings
        ),
    )


def inspect_clip_vision(name: str, path: Path, *, architecture: str, pretrained: str) -> None:
    """Checks a folder of the tower as ``save_pretrained`` writes it; no weights are read.

    Raises:
        MissingWeightsError: If the folder is not whole, or holds another architecture than the name's.
    """
    from transformers import CLIPVisionConfig

    flaw = find_folder_flaw(path, MODEL_FILES)
    absent = [file for file in ("config.json", "preprocessor_config.json") if not (path / file).is_file()]
    if flaw or absent:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {path}: {flaw or f'no {absent[0]}'}. "
            f"Expected {CLIP_VISION_FOLDER}; set run.encoder_path to it."
        )
    config = CLIPVisionConfig.from_pretrained(path, trust_remote_code=False)
    found = clip_vision_sizes(config, config.projection_dim)
    refuse_other_sizes(name, path, found=found, promised=named_clip_sizes(architecture))


class Preprocess:
    """An image processor of transformers as a function of one image, to float32 [3, H, W]."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.settings: str = processor.to_json_string()

    def __call__(self, image: "Image") -> torch.Tensor:  # noqa: D102
        return self._processor(image, return_tensors="pt")["pixel_values"][0]


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    owner: Any = find_part(tower, "gradient_checkpointing_enable")
    # The reentrant form needs inputs with a gradient, and images have none.
    owner.gradient_checkpointing_enable({"use_reentrant": False})


CLIP_VISION = TowerFamily(
    lora_targets=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    block_pattern="layers",
    drop_patches=None,
    checkpoint_activations=_checkpoint_activations,
)
