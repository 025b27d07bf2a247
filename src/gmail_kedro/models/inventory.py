"""Every kind of model there is, where its weights are on this machine, and the check of those a run names.

Only files are inspected: nothing is loaded, the network is not asked. A run that lacks weights, or was pointed at
those of another model, is told before its first hour and not after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.models.captioners.captioner import read_captioner
from gmail_kedro.models.captioners.nouns import build_noun_finder, read_vocabulary
from gmail_kedro.models.encoders.known_encoders import ENCODERS, find_encoder, find_encoder_flaw
from gmail_kedro.models.encoders.open_clip_encoder import CHECKPOINT_SUFFIXES
from gmail_kedro.models.encoders.vision_only import load_clip_vision
from gmail_kedro.models.generators.known_generators import GENERATORS, find_generator_flaw
from gmail_kedro.models.vision_language.known_vision_language_models import (
    KIND,
    VISION_LANGUAGE_MODELS,
    find_llava_flaw,
)
from gmail_kedro.models.vision_language.language_models import LANGUAGE_MODELS, find_language_model_flaw
from gmail_kedro.models.weight_sources import (
    MissingWeightsError,
    find_file_flaw,
    local_folder,
    look_up,
    packaged_weights,
)
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.vision_language import VisionLanguageParams

# Where open_clip's tags are on the hub; open_clip would say it too, but takes seconds to import.
OPEN_CLIP_HUB = {
    ("ViT-B-32-quickgelu", "openai"): "timm/vit_base_patch32_clip_224.openai",
    ("ViT-B-16-quickgelu", "openai"): "timm/vit_base_patch16_clip_224.openai",
    ("ViT-L-14-quickgelu", "openai"): "timm/vit_large_patch14_clip_224.openai",
    ("ViT-L-14-336-quickgelu", "openai"): "timm/vit_large_patch14_clip_336.openai",
    ("ViT-B-16-SigLIP", "webli"): "timm/ViT-B-16-SigLIP",
    ("ViT-B-16-SigLIP-256", "webli"): "timm/ViT-B-16-SigLIP-256",
    ("ViT-B-16-SigLIP-384", "webli"): "timm/ViT-B-16-SigLIP-384",
    ("ViT-SO400M-14-SigLIP-384", "webli"): "timm/ViT-SO400M-14-SigLIP-384",
}


@dataclass(frozen=True)
class Kind:
    """One kind of model, as requirements and messages call it.

    Attributes:
        word: What messages call one.
        specs: The known names.
        find_flaw: Returns what would keep the loader from taking a name from a folder or file, or nothing.
        path_setting: The parameter that points at a local folder or file.
        name_setting: The parameter that names the model.
    """

    word: str
    specs: Mapping[str, Any]
    find_flaw: Callable[[str, Path], str]
    path_setting: str
    name_setting: str


KINDS = {
    "encoders": Kind("encoder", ENCODERS, find_encoder_flaw, "run.encoder_path", "run.encoder"),
    "generators": Kind(
        "generator", GENERATORS, find_generator_flaw, "generation.generator_path", "generation.generator"
    ),
    "language_models": Kind(
        "language model",
        LANGUAGE_MODELS,
        find_language_model_flaw,
        "downstream.language_model_path",
        "downstream.language_model",
    ),
    "vision_language_models": Kind(
        "vision-language model",
        VISION_LANGUAGE_MODELS,
        find_llava_flaw,
        "vision_language.model_path",
        "vision_language.model",
    ),
}


@dataclass(frozen=True)
class WeightsFound:
    """What a search for weights found.

    Attributes:
        path: The folder or file, or None where nothing usable is.
        needs_path: Whether a run must be told the path; packaged and cached weights are found without.
        looked: Every place that was searched, with what was wrong there.
        hub_ids: The hub repositories they can come from, or where a person downloads them.
    """

    path: Path | None
    needs_path: bool
    looked: tuple[str, ...]
    hub_ids: tuple[str, ...]


def find_weights(kind: str, name: str, local: list[Path]) -> WeightsFound:
    """Looks for the weights of a model: in the local folders or files, inside the package, then in the hub's cache.

    Raises:
        UnknownModelError: If the name is unknown.
    """
    spec = look_up(KINDS[kind].word, name, KINDS[kind].specs)
    if kind == "vision_language_models" and spec.language_model:  # put together from the run's encoder and this
        return find_weights("language_models", spec.language_model, local)
    looked = []
    for place in local:
        flaw = KINDS[kind].find_flaw(name, place)
        if not flaw:
            return WeightsFound(place, True, (), ())
        looked.append(f"{place}: {flaw}")
    if spec.packaged:
        return WeightsFound(packaged_weights(spec.packaged), False, (), ())
    hub_ids = hub_ids_of(kind, name)
    for hub_id in hub_ids:
        folder = _cached(hub_id)
        flaw = "not in the hub's cache" if folder is None else _find_cached_flaw(kind, name, folder)
        if folder is not None and not flaw:
            return WeightsFound(folder, False, (), hub_ids)
        looked.append(f"{hub_id}: {flaw}")
    return WeightsFound(None, False, tuple(looked), hub_ids or (spec.download,))


def hub_ids_of(kind: str, name: str) -> tuple[str, ...]:
    """Returns the hub repositories that a model's weights can come from, the original first; none for a download."""
    spec = look_up(KINDS[kind].word, name, KINDS[kind].specs)
    if kind == "generators":
        return tuple(spec.hub_ids)
    if kind != "encoders":
        return (spec.hub_id,) if spec.hub_id else ()
    if "/" in spec.pretrained:
        return (spec.pretrained,)
    return (OPEN_CLIP_HUB[spec.architecture, spec.pretrained],) if spec.pretrained else ()


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _find_cached_flaw(kind: str, name: str, folder: Path) -> str:
    if kind != "encoders":
        return KINDS[kind].find_flaw(name, folder)
    # The hub library fetches single files of an encoder: the cache may hold its weights without a configuration.
    files = [file for file in sorted(folder.iterdir()) if file.suffix in CHECKPOINT_SUFFIXES]
    flaws = [find_file_flaw(file) for file in files]
    return next((flaw for flaw in flaws if flaw), "") if files else f"no file of {', '.join(CHECKPOINT_SUFFIXES)}"


def check_models(groups: Mapping[str, object]) -> None:
    """Checks that every model that parameter groups name is known, and that given paths hold it; loads nothing.

    Args:
        groups: Parameter groups by name; those that name no models are passed over.

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
            _check_weights("encoders", group.encoder, group.encoder_path)
        if isinstance(group, GenerationParams):
            _check_weights("generators", group.generator, group.generator_path)
        if isinstance(group, DownstreamParams):
            _check_downstream(group, groups.get(IfcapParams.GROUP), groups.get(RunParams.GROUP))
        if isinstance(group, VisionLanguageParams):
            _check_weights("vision_language_models", group.model, group.model_path)
            _check_vision_tower(groups["run"])


def _check_downstream(group: DownstreamParams, ifcap: object, run: object) -> None:
    stored = group.pretrained or group.start_from
    if stored is not None:
        # It was trained on one encoder's embeddings; those of another have the right width and no meaning.
        origin = read_captioner(Path(stored))[0].origin
        if origin is not None and isinstance(run, RunParams) and origin.encoder != run.encoder:
            raise ValueError(
                f"The captioner in {stored} was trained with the encoder {origin.encoder!r}; this run's is "
                f"{run.encoder!r}. Set run.encoder: {origin.encoder}."
            )
    if group.pretrained is not None:  # it brings its language model along
        return
    _check_weights("language_models", group.language_model, group.language_model_path)
    if group.model == "ifcap" and isinstance(ifcap, IfcapParams) and ifcap.nouns != "grammar":
        words = None if ifcap.vocabulary is None else read_vocabulary(Path(ifcap.vocabulary))
        build_noun_finder(ifcap.nouns, words)


def _check_weights(kind: str, name: str, path: str | None) -> None:
    facts = KINDS[kind]
    look_up(facts.word, name, facts.specs)
    if path is not None and (flaw := facts.find_flaw(name, local_folder(facts.word, name, path))):
        raise MissingWeightsError(
            f"The {facts.word} {name!r} cannot be loaded from {path}: {flaw.rstrip('.')}. Correct {facts.path_setting} "
            f"or {facts.name_setting}."
        )


def _check_vision_tower(run: object) -> None:
    if isinstance(run, RunParams) and find_encoder(run.encoder, run.encoder_path)[0].load is not load_clip_vision:
        raise ValueError(
            f"The parameter run.encoder must be a CLIP vision tower in transformers' format for a {KIND}, such as "
            f"mini_clip_vision. Got {run.encoder!r} instead. Align that tower first: kedro run --pipeline=align "
            "--params=run.encoder=mini_clip_vision"
        )
