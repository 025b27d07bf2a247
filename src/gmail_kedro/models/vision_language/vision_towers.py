"""The student's tower in a LLaVA: swapped in key by key, and checked by its hash that it is really there."""

import copy
from typing import Any

import torch

from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.encoders.vision_only import UNSEEN
from gmail_kedro.models.strict_loading import load_strictly
from gmail_kedro.models.student.student import ROUTES, StoredStudent, take_route
from gmail_kedro.models.vision_language.known_vision_language_models import clip_tower_of
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures, VisionLanguageModel
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import hash_tensors


class RouteError(ValueError):
    """An image of one modality that was given to the other modality's tower."""


class VisionTower:
    """The vision tower of one route, frozen; it encodes images of its own modality only.

    Args:
        tower: A ``CLIPVisionModel`` that nothing else changes.
        route: ``generated`` or ``real``.
        vision_features: What of its states is read.

    Raises:
        ValueError: If the route is unknown.
    """

    def __init__(self, tower: Any, route: str, vision_features: VisionFeatures) -> None:
        if route not in ROUTES:
            raise ValueError(f"The route must be one of {list(ROUTES)}. Got {route!r} instead.")
        self._tower, self._features = tower.eval().requires_grad_(False), vision_features
        self.route, self.fingerprint = route, hash_tensors(tower.state_dict())

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor, *, modality: str) -> torch.Tensor:
        """Maps preprocessed images [B, 3, H, W] of one modality to the tower's states [B, P, W].

        Raises:
            RouteError: If the modality is not the route's: its images would not land where the others were aligned to.
        """
        if modality != self.route:
            raise RouteError(
                f"A {modality} image was given to the vision tower of {self.route} images. Take the tower of its own "
                f"route: put_tower(…, {modality!r})."
            )
        weight = next(self._tower.parameters())
        return self._features.select(self._tower, pixels.to(weight.device, weight.dtype))


def put_tower(model: VisionLanguageModel, encoder: TowerEncoder, student: StoredStudent, route: str) -> VisionTower:
    """Puts what images of one modality go through into a LLaVA, in place, and returns a copy that encodes them.

    LLaVA reads hidden states, so of the student only what is tuned inside the image tower matters; its projection
    heads do not. The real route of a student with ``real_path: frozen`` or ``proj`` is the stock tower.

    Args:
        model: A LLaVA whose own tower is the one the student started from.
        encoder: The run's encoder as it is before any tuning; changed in place.
        student: The stored student.
        route: ``generated`` or ``real``.

    Raises:
        ValueError: If the route is unknown, or the student started from another tower than the model's: other weights,
            or another activation, number of heads or epsilon.
        MissingWeightsError: If the student's files are not complete, or its tuned tower makes no difference.
    """
    stock = hash_tensors(_as_stored_in(model, clip_tower_of(encoder).state_dict()))
    if stock != model.stock_tower:
        raise ValueError(
            f"The student in {student.folder} was tuned from the tower of {encoder.name!r} (weights {stock[:12]}), "
            f"which is not the one in {model.name!r} ({model.stock_tower[:12]}). Align the model's own tower: set "
            "run.encoder_path to it."
        )
    _refuse_other_settings(model, encoder)
    state = clip_tower_of(take_route(encoder, student, route)).state_dict()
    found = swap_tower(model, state, source=f"the student in {student.folder}")
    is_tuned = student.spec.image.kind != "none" and (route == "generated" or student.spec.real_path == "lora_proj")
    if is_tuned and found == model.stock_tower:
        raise MissingWeightsError(
            f"The student in {student.folder} tunes the tower of the {route} route, but in {model.name!r} it is the "
            "stock tower, bit for bit. It was aligned for too few steps, or vision_language.dtype rounds it away."
        )
    return VisionTower(copy.deepcopy(model.vision_tower), route, model.vision_features)


def swap_tower(model: VisionLanguageModel, state: dict[str, torch.Tensor], *, source: str) -> str:
    """Replaces the weights of a LLaVA's tower, in place, and returns their hash; nothing else in the model changes.

    Args:
        model: The LLaVA.
        state: The new weights by the tower's own names; floating point numbers are brought to the tower's type.
        source: Where they came from, for the message.

    Raises:
        MissingWeightsError: If a name is missing or unexpected, a shape or a kind of number differs, or the weights
            are not in the model afterwards.
    """
    own = model.vision_tower.state_dict()
    kinds = [
        key
        for key in sorted(own.keys() & state.keys())
        if state[key].is_floating_point() != own[key].is_floating_point()
    ]
    if kinds:
        raise MissingWeightsError(
            f"The weights in {source} do not fit the tower of {model.name!r}: {kinds[0]} is {state[kinds[0]].dtype} "
            f"instead of {own[kinds[0]].dtype}. Give a tower in floating point numbers."
        )
    cast = _as_stored_in(model, state)
    load_strictly(f"{model.name} (its vision tower)", model.vision_tower, cast, source=source)
    # Every score of this pipeline rests on the tower being the student's: the hash of what is there now is compared.
    found, wanted = hash_tensors(model.vision_tower.state_dict()), hash_tensors(cast)
    if found != wanted:
        raise MissingWeightsError(
            f"The tower of {model.name!r} has the hash {found[:12]} after it was replaced by {source}; expected "
            f"{wanted[:12]}. The weights were not taken over."
        )
    return found


def _refuse_other_settings(model: VisionLanguageModel, encoder: TowerEncoder) -> None:
    own, other = model.vision_tower.config, clip_tower_of(encoder).config
    for key in UNSEEN:
        if getattr(own, key) != getattr(other, key):
            raise ValueError(
                f"The tower of {encoder.name!r} has the weights of the one in {model.name!r}, but {key} is "
                f"{getattr(other, key)!r} there and {getattr(own, key)!r} here: its student would see differently. "
                "Make the config.json of run.encoder_path and of vision_language.model_path agree, and align again."
            )


def _as_stored_in(model: VisionLanguageModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = model.vision_tower.state_dict()
    return {key: value.to(own[key].dtype) if key in own else value for key, value in state.items()}
