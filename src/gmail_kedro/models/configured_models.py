"""Checks the models that a configuration names, before any work is done with them."""

from collections.abc import Mapping
from pathlib import Path

from gmail_kedro.models.captioners.captioner_spec import read_captioner
from gmail_kedro.models.captioners.nouns import build_noun_finder, read_vocabulary
from gmail_kedro.models.encoders.clip_vision import load_clip_vision
from gmail_kedro.models.encoders.known_encoders import find_encoder
from gmail_kedro.models.inventory import KINDS, find_flaw
from gmail_kedro.models.registry import MissingWeightsError, local_folder, look_up
from gmail_kedro.models.vision_language.llava import KIND
from gmail_kedro.params import DownstreamParams, GenerationParams, IfcapParams, RunParams, VisionLanguageParams


def check_models(groups: Mapping[str, object]) -> None:
    """Checks that the zoo knows every model of the parameter groups, and that given paths hold it; loads nothing.

    Args:
        groups: Parameter groups by name; other groups than those that name models are passed over.

    Raises:
        UnknownModelError: If a name is not known; lists the known ones.
        MissingWeightsError: If a local path is not there, not whole, or holds another model, or is needed and not
            given, or a tagger's data is not there.
        ValueError: If a stored captioner is to be taken and was trained with another encoder, or a vision-language
            model is named and the run's encoder is not what it sees with.
    """
    for group in groups.values():
        if isinstance(group, RunParams):
            find_encoder(group.encoder, group.encoder_path)
            _check("encoders", group.encoder, group.encoder_path)
        if isinstance(group, GenerationParams):
            _check("generators", group.generator, group.generator_path)
        if isinstance(group, DownstreamParams):
            _check_downstream(group, groups.get(IfcapParams.GROUP), groups.get(RunParams.GROUP))
        if isinstance(group, VisionLanguageParams):
            _check("vision_language_models", group.model, group.model_path)
            _check_tower(groups["run"])


def _check_downstream(group: DownstreamParams, ifcap: object, run: object) -> None:
    stored = group.pretrained or group.start_from
    if stored is not None:
        origin = read_captioner(Path(stored))[0].origin
        if origin is not None and isinstance(run, RunParams) and origin.encoder != run.encoder:
            raise ValueError(
                f"The captioner in {stored} was trained with the encoder {origin.encoder!r}; this run's is "
                f"{run.encoder!r}. Set run.encoder: {origin.encoder}."
            )
    if group.pretrained is not None:
        return
    _check("language_models", group.language_model, group.language_model_path)
    if group.model == "ifcap" and isinstance(ifcap, IfcapParams) and ifcap.nouns != "grammar":
        words = None if ifcap.vocabulary is None else read_vocabulary(Path(ifcap.vocabulary))
        build_noun_finder(ifcap.nouns, words)


def _check(kind: str, name: str, path: str | None) -> None:
    facts = KINDS[kind]
    look_up(facts.word, name, facts.specs)
    if path is not None and (flaw := find_flaw(kind, name, local_folder(facts.word, name, path))):
        raise MissingWeightsError(
            f"The {facts.word} {name!r} cannot be loaded from {path}: {flaw.rstrip('.')}. Correct {facts.path_setting} "
            f"or {facts.name_setting}."
        )


def _check_tower(run: object) -> None:
    if isinstance(run, RunParams) and find_encoder(run.encoder, run.encoder_path)[0].load is not load_clip_vision:
        raise ValueError(
            f"The parameter run.encoder must be a CLIP vision tower in transformers' format for a {KIND}, such as "
            f"mini_clip_vision. Got {run.encoder!r} instead. Align that tower first: kedro run --pipeline=align "
            "--params=run.encoder=mini_clip_vision"
        )
