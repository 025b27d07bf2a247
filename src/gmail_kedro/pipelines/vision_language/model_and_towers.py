"""The model of a run and the vision tower of each route."""

import torch

from gmail_kedro.engine.batches import FrozenActivations, PixelBatches
from gmail_kedro.interfaces import ImageSource
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import ROUTES, StoredStudent
from gmail_kedro.models.vision_language.vision_language_model import VisionLanguageModel
from gmail_kedro.models.vision_language.vision_towers import VisionTower, put_tower
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.vision_language import VisionLanguageParams


def build_model(params: VisionLanguageParams, run: RunParams, *, device: torch.device) -> VisionLanguageModel:
    """Returns the vision-language model as it is before any training of ours."""
    from gmail_kedro.models.encoders.known_encoders import build_teacher
    from gmail_kedro.models.vision_language.known_vision_language_models import (
        LlavaSettings,
        build_vision_language_model,
    )
    from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures

    settings = LlavaSettings(
        dtype=params.dtype,
        vision_features=VisionFeatures(params.feature_layer, params.feature_select),
        chat_format=params.chat_format,
        seed=run.seed,
    )
    # On the CPU: the model takes the tower's weights over and goes to its device as a whole.
    encoder = build_teacher(run, torch.device("cpu"))
    return build_vision_language_model(
        params.model, params.model_path, encoder=encoder, settings=settings, device=device
    )


def open_towers(model: VisionLanguageModel, adapter: StoredStudent, run: RunParams) -> dict[str, VisionTower]:
    """Returns the vision tower of each route; the model is left with the tower of the real one."""
    from gmail_kedro.models.encoders.known_encoders import build_teacher

    # A teacher for each route: one that has taken a route cannot take the other.
    return {route: put_tower(model, build_teacher(run, torch.device("cpu")), adapter, route) for route in ROUTES}


def open_tokens(
    model: VisionLanguageModel,
    tower: VisionTower,
    source: ImageSource,
    keys: list[str],
    *,
    origin: str,
    cache_gib: float,
) -> FrozenActivations:
    """Returns the tokens that a route's tower makes of images, kept where all fit into ``cache_gib`` GiB.

    ``origin`` says what the images are, ``generated`` or ``real``, where the source has no ``modality`` of its own.
    """
    said = getattr(source, "modality", origin)
    return FrozenActivations(
        # No pixels are kept: each image is decoded once, and its tokens are what is asked for again.
        PixelBatches(model.preprocess, source, keys, limit_bytes=0),
        # Says which modality comes, so that a tower refuses images of the other route.
        lambda pixels: tower.encode(pixels, modality=said),
        limit_bytes=int(cache_gib * 2**30),
        dtype=torch.float16,  # half the memory; the projector multiplies in single precision again
    )


def tuning_of(params: VisionLanguageParams) -> TuningSpec:
    """Returns what is tuned in the language model: nothing without steps or rank."""
    # Without steps LoRA would only be zeros in the way of every forward pass.
    kind = "lora" if params.training.steps and params.lora.rank else "none"
    return TuningSpec.of(kind, params.lora, targets=params.lora.targets)
