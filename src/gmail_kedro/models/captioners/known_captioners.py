"""Captioners by kind, and from disk: to caption with, or to go on training from."""

from pathlib import Path

import torch

from gmail_kedro.models.captioners.captioner import MAPPER_FILE, Captioner, read_captioner
from gmail_kedro.models.captioners.ifcap import IfcapCaptioner
from gmail_kedro.models.captioners.prefix_mappers import build_mapper
from gmail_kedro.models.strict_loading import load_file_strictly
from gmail_kedro.models.vision_language.language_models import load_language_model
from gmail_kedro.models.weight_sources import look_up

# By the name that `downstream.model` and captioner.json have for it. An entry needs a subclass of Captioner: `caption`
# where it reads more than the prefix, `save_pretrained` and `from_folder` where it stores more than mapper and language
# model. Its training examples are made in pipelines/downstream/captioner_training.py; `downstream.model` must allow
# its name.
CAPTIONERS: dict[str, type[Captioner]] = {"clipcap": Captioner, "ifcap": IfcapCaptioner}


def load_captioner(folder: Path, *, device: torch.device) -> Captioner:
    """Returns a stored captioner of any kind in eval mode.

    Args:
        folder: Where it was saved; it holds everything but frozen language model weights.
        device: Where it goes.

    Raises:
        MissingWeightsError: If the folder holds none, or its weights or its language model are not there or do not fit.
        UnknownModelError: If it is of a kind that is not known.
    """
    spec, record = read_captioner(folder)
    kind = look_up("captioner", spec.kind, CAPTIONERS)
    language = load_language_model(folder, record)
    mapper = build_mapper(spec.mapper)
    load_file_strictly(f"{spec.kind} (its mapper)", mapper, folder / MAPPER_FILE)
    return kind.from_folder(spec, mapper, language, folder).to(device).eval().requires_grad_(False)


def start_from(captioner: Captioner, folder: Path, *, device: torch.device) -> None:
    """Gives a fresh captioner the weights of a stored one, so that training goes on from there.

    Args:
        captioner: Gets the weights; what stands beside them, such as IFCap's memory, stays its own.
        folder: Where the other was saved.
        device: Where the captioner is.

    Raises:
        MissingWeightsError: If the folder holds none, or its language model is not there.
        ValueError: If the two differ in what they consist of, or read another encoder; names the first difference.
    """
    stored = load_captioner(folder, device=device)
    wanted, found = _facts(captioner), _facts(stored)
    for name, value in wanted.items():
        if None not in (value, found[name]) and value != found[name]:
            raise ValueError(
                f"Training cannot go on from the captioner at {folder}: its {name} is {found[name]!r}, and this run's "
                f"is {value!r}. Set downstream.start_from to a captioner of the same kind, or to null."
            )
    captioner.load_state_dict(stored.state_dict())


def _facts(captioner: Captioner) -> dict[str, str | None]:
    """Returns by name what two captioners must have in common for one to take over the other's weights."""
    spec, record = captioner.spec, captioner.language.record
    return {
        "kind": spec.kind,
        "mapper": str(spec.mapper),
        "caption end": spec.caption_end,
        "language model": record.name,
        "tuned part of the language model": record.tuning,
        "encoder": None if spec.origin is None else spec.origin.encoder,
    }
