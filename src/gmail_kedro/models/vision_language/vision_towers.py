"""The student's tower in a LLaVA: swapped in key by key, and checked by its hash that it is really there."""

import copy

import torch

from gmail_kedro.checksums import hash_tensors
from gmail_kedro.models.encoders.clip_vision import UNSEEN
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.strict_loading import load_strictly
from gmail_kedro.models.student.student import StoredStudent, take_route
from gmail_kedro.models.vision_language.llava import clip_tower_of
from gmail_kedro.models.vision_language.vision_language_model import Eye, VisionLanguageModel
from gmail_kedro.models.weight_sources import MissingWeightsError


def put_tower(model: VisionLanguageModel, encoder: TowerEncoder, student: StoredStudent, route: str) -> Eye:
    """Puts what images of one modality go through into a LLaVA, in place, and returns a copy that sees them.

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
    return Eye(copy.deepcopy(model.tower), route, model.seeing)


def swap_tower(model: VisionLanguageModel, state: dict[str, torch.Tensor], *, source: str) -> str:
    """Replaces the weights of a LLaVA's tower and returns their hash; nothing else in the model changes.

    Args:
        model: Changed in place.
        state: The new weights by the tower's own names; floating point numbers are brought to the tower's type.
        source: Where they came from, for the message.

    Raises:
        MissingWeightsError: If a name is missing or unexpected, a shape or a kind of number differs, or the weights
            are not in the model afterwards.
    """
    own = model.tower.state_dict()
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
    load_strictly(f"{model.name} (its vision tower)", model.tower, cast, source=source)
    found, wanted = hash_tensors(model.tower.state_dict()), hash_tensors(cast)
    if found != wanted:
        raise MissingWeightsError(
            f"The tower of {model.name!r} has the hash {found[:12]} after it was replaced by {source}; expected "
            f"{wanted[:12]}. The weights were not taken over."
        )
    return found


def _refuse_other_settings(model: VisionLanguageModel, encoder: TowerEncoder) -> None:
    own, other = model.tower.config, clip_tower_of(encoder).config
    for key in UNSEEN:
        if getattr(own, key) != getattr(other, key):
            raise ValueError(
                f"The tower of {encoder.name!r} has the weights of the one in {model.name!r}, but {key} is "
                f"{getattr(other, key)!r} there and {getattr(own, key)!r} here: its student would see differently. "
                "Make the config.json of run.encoder_path and of vision_language.model_path agree, and align again."
            )


def _as_stored_in(model: VisionLanguageModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = model.tower.state_dict()
    return {key: value.to(own[key].dtype) if key in own else value for key, value in state.items()}
