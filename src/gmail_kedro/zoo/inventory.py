"""Where the weights of a model are on this machine, by a look at files: nothing is loaded, the network is not asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.zoo.encoders import ENCODERS
from gmail_kedro.zoo.generators import GENERATORS, INDEX_FILE
from gmail_kedro.zoo.language_models import LANGUAGE_MODELS
from gmail_kedro.zoo.llava import VISION_LANGUAGE_MODELS
from gmail_kedro.zoo.registry import look_up, packaged_weights

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
CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth")
SHARD_INDEX = "*.index.json"


@dataclass(frozen=True)
class Kind:
    """One kind of model, as requirements and messages call it.

    Attributes:
        word: What messages call one.
        specs: The zoo's names.
        path_setting: The parameter that points at a local folder or file.
        name_setting: The parameter that names the model.
    """

    word: str
    specs: Mapping[str, Any]
    path_setting: str
    name_setting: str


KINDS = {
    "encoders": Kind("encoder", ENCODERS, "run.encoder_path", "run.encoder"),
    "generators": Kind("generator", GENERATORS, "generation.generator_path", "generation.generator"),
    "language_models": Kind(
        "language model", LANGUAGE_MODELS, "downstream.language_model_path", "downstream.language_model"
    ),
    "vision_language_models": Kind(
        "vision-language model", VISION_LANGUAGE_MODELS, "vision_language.model_path", "vision_language.model"
    ),
}


@dataclass(frozen=True)
class WeightsFound:
    """What a look for weights found.

    Attributes:
        path: The folder or file, or None where nothing usable is.
        needs_path: Whether a run must be told the path; packaged and cached weights are found without.
        looked: Every place that was looked in, with what was wrong there.
        hub_ids: The hub repositories they can come from, or where a person downloads them.
    """

    path: Path | None
    needs_path: bool
    looked: tuple[str, ...]
    hub_ids: tuple[str, ...]


def find_weights(kind: str, name: str, local: list[Path]) -> WeightsFound:
    """Looks for the weights of a model: in local places, inside the package, then in the hub's cache.

    Args:
        kind: A key of ``KINDS``.
        name: The zoo's name.
        local: Folders or files to look at first.

    Raises:
        UnknownModelError: If the zoo does not know the name.
    """
    spec = look_up(KINDS[kind].word, name, KINDS[kind].specs)
    if kind == "vision_language_models" and spec.language_model:  # put together from the run's encoder and this
        return find_weights("language_models", spec.language_model, local)
    find_flaw = _pipeline_flaw if kind == "generators" else _checkpoint_flaw
    looked = []
    for place in local:
        flaw = find_flaw(place)
        if not flaw:
            return WeightsFound(place, True, (), ())
        looked.append(f"{place}: {flaw}")
    if spec.packaged:
        return WeightsFound(packaged_weights(spec.packaged), False, (), ())
    hub_ids = hub_ids_of(kind, name)
    for hub_id in hub_ids:
        folder = _cached(hub_id)
        flaw = "not in the hub's cache" if folder is None else find_flaw(folder)
        if folder is not None and not flaw:
            return WeightsFound(folder, False, (), hub_ids)
        looked.append(f"{hub_id}: {flaw}")
    return WeightsFound(None, False, tuple(looked), hub_ids or (spec.download,))


def hub_ids_of(kind: str, name: str) -> tuple[str, ...]:
    """Returns the hub repositories that a model's weights can come from, the original first; none for a download.

    Args:
        kind: A key of ``KINDS``.
        name: The zoo's name.
    """
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


def _pipeline_flaw(folder: Path) -> str:
    """Returns what keeps a diffusers folder from being loaded, or nothing."""
    if not (folder / INDEX_FILE).is_file():
        return f"no {INDEX_FILE}" if folder.exists() else "not there"
    listed = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    parts = [name for name, value in listed.items() if isinstance(value, list) and value[0] is not None]
    for part in parts:
        if not any(child.is_file() for child in (folder / part).glob("*")):
            return f"no files of its {part}"
        is_model = (folder / part / "config.json").is_file()
        flaw = _checkpoint_flaw(folder / part, suffixes=(".safetensors",)) if is_model else ""
        if flaw:
            return f"its {part}: {flaw}"
    return ""


def _checkpoint_flaw(place: Path, suffixes: tuple[str, ...] = CHECKPOINTS) -> str:
    """Returns what keeps a checkpoint, or a folder with one, from being loaded, or nothing."""
    if not place.exists():
        return "not there"
    if place.is_file():
        return "" if place.suffix in suffixes else f"no file of {', '.join(suffixes)}"
    flaw = ""
    for index in sorted(place.glob(SHARD_INDEX)):
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        absent_count = sum(not (place / shard).is_file() for shard in shards)
        if not absent_count:
            return ""
        flaw = f"{absent_count} of {len(shards)} shards are missing"
    if not flaw and not any(file.suffix in suffixes and file.is_file() for file in place.iterdir()):
        flaw = f"no file of {', '.join(suffixes)}"
    return flaw
