"""CLIP's vision tower in transformers' format: the one LLaVA sees with. It reads no text."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.interfaces import Contrast
from gmail_kedro.zoo.open_clip_encoder import hash_model
from gmail_kedro.zoo.registry import MissingWeightsError, mute_transformers
from gmail_kedro.zoo.state_dicts import LISTED
from gmail_kedro.zoo.towers import Family, Reading, TowerEncoder, Towers, find_part

if TYPE_CHECKING:
    from PIL.Image import Image

READ_LAYER = -2
CLIP_SCALE = 100.0


class ClipVisionTower(torch.nn.Module):
    """transformers' ``CLIPVisionModel``, with the patch tokens that LLaVA reads: layer -2, class token left out.

    Args:
        vision: The model.
    """

    def __init__(self, vision: Any) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W]."""
        seen = self.vision(images, output_hidden_states=True)
        return seen.pooler_output, seen.hidden_states[READ_LAYER][:, 1:]


def load_clip_vision(
    name: str, path: Path | None, *, architecture: str, pretrained: str, device: torch.device
) -> TowerEncoder:
    """Returns an encoder of transformers' ``CLIPVisionModelWithProjection``.

    The format holds no logit scale; the contrast is the one every OpenAI CLIP ended training with.

    Args:
        name: The zoo's name.
        path: A folder as ``save_pretrained`` writes it, or None for the hub.
        architecture: Not used: the folder says what the model is.
        pretrained: The hub repository.
        device: Where the model goes.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    source = pretrained if path is None else str(path)
    mute_transformers()
    try:
        model, loading = CLIPVisionModelWithProjection.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
        processor = CLIPImageProcessor.from_pretrained(source)
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {source}: {error}. Expected a folder with "
            "config.json, model.safetensors and preprocessor_config.json; set run.encoder_path to it."
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise MissingWeightsError(
            f"The weights in {source} do not fit the encoder {name!r}: {len(missing)} missing "
            f"({', '.join(missing[:LISTED])}). Give the weights of a CLIPVisionModelWithProjection."
        )
    model = model.to(device).eval().requires_grad_(False)
    projection = model.visual_projection.weight.detach().T
    return TowerEncoder(
        name,
        towers=Towers(
            ClipVisionTower(model.vision_model), None, projection, Contrast(CLIP_SCALE, None), len(projection)
        ),
        reading=Reading(Preprocess(processor)),
        family=CLIP_VISION,
        fingerprint=hash_model(model, processor),
    )


class Preprocess:
    """An image processor as a function of one picture, to float32 [3, H, W].

    Args:
        processor: Of transformers.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, image: "Image") -> torch.Tensor:  # noqa: D102
        return self._processor(image, return_tensors="pt")["pixel_values"][0]


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    owner: Any = find_part(tower, "gradient_checkpointing_enable")
    owner.gradient_checkpointing_enable({"use_reentrant": False})


CLIP_VISION = Family(
    lora_targets=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    block_pattern="layers",
    drop_patches=None,
    checkpoint_activations=_checkpoint_activations,
)
