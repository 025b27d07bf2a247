"""Published ClipCap checkpoints, ``coco_weights.pt`` and its like, turned into a captioner's folder.

Their state dict holds the whole language model under ``gpt.`` and the mapper under ``clip_project.``: an MLP as
``model.{0,2}``, or a transformer as ``linear``, ``prefix_const`` and ``transformer.layers.N``, whose keys and values
are one matrix. The files do not say which encoder they belong to, nor how many heads the mapper has: eight.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.captioner import Captioner, CaptionerSpec
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.encoders.known_encoders import ENCODERS
from gmail_kedro.models.strict_loading import load_strictly, read_state_dict
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.language_models import TunedLanguageModel, prepare_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError, look_up
from gmail_kedro.whole_files import atomic_folder

NAME = "clipcap"
GPT, PREFIX = "gpt.", "clip_project."
MLP_NAMES = ["model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias"]
HEADS = 8
# GPT-2's causal masks, which an older transformers stored among the weights and today's has no place for.
MASK_BUFFERS = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
LAYER = re.compile(r"transformer\.layers\.(\d+)\.(.+)")
BLOCK_NAMES = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "attn.project.weight": "self_attn.out_proj.weight",
    "attn.project.bias": "self_attn.out_proj.bias",
    "mlp.fc1.weight": "linear1.weight",
    "mlp.fc1.bias": "linear1.bias",
    "mlp.fc2.weight": "linear2.weight",
    "mlp.fc2.bias": "linear2.bias",
}
QUERIES, KEYS_VALUES = "attn.to_queries.weight", "attn.to_keys_values.weight"
UNTUNED = TuningSpec(kind="full", rank=1, alpha=1, dropout=0, targets=())


def convert_clipcap(
    file: Path,
    folder: Path,
    *,
    encoder: str,
    normalize: bool | None = None,
    language_model: str = "gpt2",
    language_model_path: str | None = None,
) -> Captioner:
    """Turns a published checkpoint into a captioner's folder, and returns the captioner.

    Args:
        file: The ``.pt`` file; it is read without running code from it.
        folder: Where the captioner goes; it must not be there yet.
        encoder: Name of the encoder it was trained with; the file does not say it.
        normalize: Whether it was trained on normalised embeddings; None for what was published: the transformer
            was, the MLP was not.
        language_model: The language model it was trained with, for its sizes and its tokenizer.
        language_model_path: A local folder of that, or None for the packaged or published weights.

    Raises:
        MissingWeightsError: If the file is not such a checkpoint; lists what is missing and what does not belong.
        UnknownModelError: If the name of the encoder or of the language model is not known.
        FileExistsError: If the folder is there.
    """
    look_up("encoder", encoder, ENCODERS)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already. Name another folder, or remove it.")
    state = read_state_dict(NAME, file)
    if strangers := [key for key in state if not key.startswith((GPT, PREFIX))]:
        raise MissingWeightsError(
            f"{file} is no ClipCap checkpoint: it holds {len(strangers)} tensors that begin neither with {GPT} nor "
            f"with {PREFIX} (such as {strangers[:3]})."
        )
    written = {key.removeprefix(GPT): value for key, value in state.items() if key.startswith(GPT)}
    written = {key: value for key, value in written.items() if not MASK_BUFFERS.fullmatch(key)}
    language = prepare_language_model(language_model, language_model_path, UNTUNED, seed=0)
    load_strictly(language_model, language.model, written, source=str(file))
    mapper = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    captioner = _assemble(file, mapper, language, encoder, normalize)
    with atomic_folder(folder) as partial:
        captioner.save_pretrained(partial)
    return captioner


def _assemble(
    file: Path,
    stored: Mapping[str, torch.Tensor],
    language: TunedLanguageModel,
    encoder: str,
    normalize: bool | None,
) -> Captioner:
    """Returns the captioner of a stored mapper: what its tensors say about sizes, then all of them strictly."""
    is_mlp = "model.0.weight" in stored
    _check_names(file, stored, MLP_NAMES if is_mlp else _transformer_names(stored))
    spec = _mlp_spec(stored, language.width) if is_mlp else _transformer_spec(stored)
    spec = replace(spec, normalize=(not is_mlp) if normalize is None else normalize)
    mapper = build_mapper(spec)
    state = _mlp_state(stored) if is_mlp else _transformer_state(stored)
    load_strictly(f"{NAME} mapper", mapper, state, source=str(file))
    origin = FeatureOrigin(encoder=encoder, sides=("real",))
    return Captioner(CaptionerSpec("clipcap", spec, "period", origin, {}), mapper.eval(), language)


def _mlp_spec(stored: Mapping[str, torch.Tensor], width: int) -> MapperSpec:
    return MapperSpec(
        kind="mlp",
        embed_dim=int(stored["model.0.weight"].shape[1]),
        prefix_length=len(stored["model.2.weight"]) // width,
        width=width,
        layers=0,
        heads=HEADS,
        constant_count=0,
        normalize=False,
    )


def _transformer_spec(stored: Mapping[str, torch.Tensor]) -> MapperSpec:
    queries, linear = stored["prefix_const"], stored["linear.weight"]  # [L, W], [C * W, D]
    return MapperSpec(
        kind="transformer",
        embed_dim=int(linear.shape[1]),
        prefix_length=len(queries),
        width=int(queries.shape[1]),
        layers=_layer_count(stored),
        heads=HEADS,
        constant_count=len(linear) // int(queries.shape[1]),
        normalize=True,
    )


def _mlp_state(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"layers.{key.removeprefix('model.')}": value for key, value in stored.items()}


def _transformer_state(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors by our mapper's names; queries, keys and values are one matrix, without a bias."""
    state = {"queries": stored["prefix_const"]} | {name: stored[name] for name in ("linear.weight", "linear.bias")}
    for layer in range(_layer_count(stored)):
        theirs, ours = f"transformer.layers.{layer}", f"blocks.{layer}"
        state |= {f"{ours}.{name}": stored[f"{theirs}.{old}"] for old, name in BLOCK_NAMES.items()}
        # Queries, then keys and values: the order of torch's one matrix too.
        entry = torch.cat([stored[f"{theirs}.{QUERIES}"], stored[f"{theirs}.{KEYS_VALUES}"]])  # [3W, W]
        state |= {
            f"{ours}.self_attn.in_proj_weight": entry,
            f"{ours}.self_attn.in_proj_bias": entry.new_zeros(len(entry)),
        }
    return state


def _transformer_names(stored: Mapping[str, torch.Tensor]) -> list[str]:
    """Returns the names a transformer mapper with as many layers should have."""
    layers = range(_layer_count(stored))
    return ["prefix_const", "linear.weight", "linear.bias"] + [
        f"transformer.layers.{layer}.{name}" for layer in layers for name in (*BLOCK_NAMES, QUERIES, KEYS_VALUES)
    ]


def _layer_count(stored: Mapping[str, torch.Tensor]) -> int:
    return max((int(match.group(1)) for key in stored if (match := LAYER.fullmatch(key))), default=0) + 1


def _check_names(file: Path, stored: Mapping[str, torch.Tensor], expected: Sequence[str]) -> None:
    missing = [f"{PREFIX}{name}" for name in sorted(set(expected) - stored.keys())]
    unexpected = [f"{PREFIX}{name}" for name in sorted(stored.keys() - set(expected))]
    if missing or unexpected:
        raise MissingWeightsError(
            f"{file} is no ClipCap checkpoint: {len(missing)} tensors are missing ({', '.join(missing[:3])}) and "
            f"{len(unexpected)} do not belong there ({', '.join(unexpected[:3])})."
        )
