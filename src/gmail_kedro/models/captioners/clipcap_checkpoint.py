"""Published ClipCap checkpoints, ``coco_weights.pt`` and its like, turned into a captioner's folder.

Their state dict holds the whole language model under ``gpt.`` and the mapper under ``clip_project.``: an MLP as
``model.{0,2}``, or a transformer as ``linear``, ``prefix_const`` and ``transformer.layers.N``, whose keys and values
are one matrix. The files do not say which encoder they belong to, nor how many heads the mapper has: eight.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.captioner import Captioner, CaptionerSpec
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.encoders.known_encoders import ENCODERS
from gmail_kedro.models.strict_loading import load_strictly, read_state_dict
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.language_models import prepare_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError, look_up
from gmail_kedro.whole_files import atomic_folder

GPT, PREFIX = "gpt.", "clip_project."
HEADS = 8
# GPT-2's causal masks, which an older transformers stored among the weights and today's has no place for.
MASK_BUFFERS = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
LAYER = re.compile(r"transformer\.layers\.(\d+)\.")
MLP_NAMES = {f"layers.{layer}.{part}": [f"model.{layer}.{part}"] for layer in (0, 2) for part in ("weight", "bias")}
# Names inside a block of torch's TransformerEncoderLayer, and what is stored of each; two matrices are put together.
BLOCK_NAMES = {
    f"{ours}.{part}": [f"{theirs}.{part}"]
    for ours, theirs in {
        "norm1": "norm1",
        "norm2": "norm2",
        "self_attn.out_proj": "attn.project",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }.items()
    for part in ("weight", "bias")
} | {"self_attn.in_proj_weight": ["attn.to_queries.weight", "attn.to_keys_values.weight"]}
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
    state = read_state_dict("clipcap", file)
    if strangers := [key for key in state if not key.startswith((GPT, PREFIX))]:
        raise MissingWeightsError(
            f"{file} is no ClipCap checkpoint: it holds {len(strangers)} tensors that begin neither with {GPT} nor "
            f"with {PREFIX} (such as {strangers[:3]})."
        )
    written = {key.removeprefix(GPT): value for key, value in state.items() if key.startswith(GPT)}
    written = {key: value for key, value in written.items() if not MASK_BUFFERS.fullmatch(key)}
    language = prepare_language_model(language_model, language_model_path, UNTUNED, seed=0)
    load_strictly(language_model, language.model, written, source=str(file))
    stored = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    spec, mapper = _read_mapper(file, stored, language.width, normalize)
    origin = FeatureOrigin(encoder=encoder, sides=("real",))
    captioner = Captioner(CaptionerSpec("clipcap", spec, "period", origin, {}), mapper.eval(), language)
    with atomic_folder(folder) as partial:
        captioner.save_pretrained(partial)
    return captioner


def _read_mapper(
    file: Path, stored: Mapping[str, torch.Tensor], width: int, normalize: bool | None
) -> tuple[MapperSpec, torch.nn.Module]:
    """Returns the stored mapper: its sizes are read off its tensors, which are then all taken, by our names."""
    is_mlp = "model.0.weight" in stored
    layer_count = max((int(match.group(1)) for key in stored if (match := LAYER.match(key))), default=0) + 1
    names = MLP_NAMES if is_mlp else _transformer_names(layer_count)
    _refuse_other_names(file, stored, [theirs for parts in names.values() for theirs in parts])
    if is_mlp:
        first, last = stored["model.0.weight"], stored["model.2.weight"]  # [W * L / 2, D], [W * L, W * L / 2]
        kind, embed_dim, length, constant_count, layer_count = "mlp", first.shape[1], len(last) // width, 0, 0
    else:
        queries, linear = stored["prefix_const"], stored["linear.weight"]  # [L, W], [C * W, D]
        length, width = queries.shape
        kind, embed_dim, constant_count = "transformer", linear.shape[1], len(linear) // width
    spec = MapperSpec(
        kind=kind,
        embed_dim=embed_dim,
        prefix_length=length,
        width=width,
        layers=layer_count,
        heads=HEADS,
        constant_count=constant_count,
        normalize=(not is_mlp) if normalize is None else normalize,
    )
    state = {ours: torch.cat([stored[theirs] for theirs in parts]) for ours, parts in names.items()}
    for layer in range(layer_count):  # torch's attention has a bias where ClipCap's has none
        state[f"blocks.{layer}.self_attn.in_proj_bias"] = torch.zeros(3 * width)
    mapper = build_mapper(spec)
    load_strictly("clipcap mapper", mapper, state, source=str(file))
    return spec, mapper


def _transformer_names(layer_count: int) -> dict[str, list[str]]:
    """Returns by our names what is stored of a transformer with so many layers."""
    names = {"queries": ["prefix_const"], "linear.weight": ["linear.weight"], "linear.bias": ["linear.bias"]}
    return names | {
        f"blocks.{layer}.{ours}": [f"transformer.layers.{layer}.{theirs}" for theirs in parts]
        for layer in range(layer_count)
        for ours, parts in BLOCK_NAMES.items()
    }


def _refuse_other_names(file: Path, stored: Mapping[str, torch.Tensor], expected: Sequence[str]) -> None:
    missing = [f"{PREFIX}{name}" for name in sorted(set(expected) - stored.keys())]
    unexpected = [f"{PREFIX}{name}" for name in sorted(stored.keys() - set(expected))]
    if missing or unexpected:
        raise MissingWeightsError(
            f"{file} is no ClipCap checkpoint: {len(missing)} tensors are missing ({', '.join(missing[:3])}) and "
            f"{len(unexpected)} do not belong there ({', '.join(unexpected[:3])})."
        )
