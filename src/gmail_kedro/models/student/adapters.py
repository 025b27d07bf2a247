"""What is tuned in a tower: LoRA or DoRA through PEFT, in PEFT's own files, or every weight.

PEFT does the work, and three of its habits are not taken over: an adapter with missing tensors is refused instead of
loaded with a warning, fused attention gets the layer of ``lora_attention``, and equal adapters are equal bytes on disk.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.models.fingerprints import save_weights
from gmail_kedro.models.strict_loading import load_file_strictly, refuse_other_shapes, shapes_of
from gmail_kedro.models.weight_sources import MissingWeightsError, read_shapes, reason_of
from gmail_kedro.params.base import LoraParams

WEIGHTS_FILE, TOWER_FILE = "adapter_model.safetensors", "tower.safetensors"
REMEDY = "Train it again, or give the model that it was trained on."
CONFIG_FILE, UNORDERED = "adapter_config.json", ("target_modules", "exclude_modules")


@dataclass(frozen=True)
class TuningSpec:
    """Which weights of a tower are trained.

    Attributes:
        kind: ``lora``, ``dora``, ``full`` or ``none``.
        rank: Rank r of each pair of factors.
        alpha: The update is scaled by ``alpha / rank``.
        dropout: Dropout before the first factor.
        targets: Names of the modules that get factors.
        blocks: Numbers of the transformer blocks that get them, or None for all.
        block_pattern: Name of the list of transformer blocks.
    """

    kind: str
    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    blocks: tuple[int, ...] | None = None
    block_pattern: str | None = None

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "TuningSpec":
        """Returns the spec that ``dataclasses.asdict`` and JSON made lists of."""
        blocks = None if facts["blocks"] is None else tuple(facts["blocks"])
        return cls(**{**facts, "targets": tuple(facts["targets"]), "blocks": blocks})

    @classmethod
    def of(
        cls,
        kind: str,
        lora: LoraParams,
        *,
        targets: Sequence[str],
        blocks: tuple[int, ...] | None = None,
        block_pattern: str | None = None,
    ) -> "TuningSpec":
        """Returns the tuning that parameters describe."""
        return cls(kind, lora.rank, lora.alpha, lora.dropout, tuple(targets), blocks, block_pattern)

    @property
    def is_adapter(self) -> bool:
        """Whether PEFT wraps the tower."""
        return self.kind in ("lora", "dora")


def tune_tower(
    tower: torch.nn.Module,
    spec: TuningSpec,
    *,
    owner: str,
    seed: int,
    setting: str = "alignment.lora.targets, or null for the model's own",
) -> torch.nn.Module:
    """Returns a tower, or language model, ready to be trained, in place; at first it computes what it did before.

    The seed is for the first factors, since the second are zero. ``setting`` is the parameter that names the targets,
    and what it may be, for the message.

    Raises:
        ValueError: If a target does not exist, or DoRA is asked for on fused attention.
    """
    if spec.kind == "full":
        return tower.requires_grad_(True)
    if not spec.is_adapter:
        return tower
    _check_targets(tower, spec, owner, setting)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        layers_to_transform=None if spec.blocks is None else list(spec.blocks),
        layers_pattern=None if spec.blocks is None else spec.block_pattern,
        use_dora=spec.kind == "dora",
        bias="none",
        fan_in_fan_out=_is_transposed(tower, spec),
    )
    # A stream of its own: the adapter's start depends on the seed alone, not on what was drawn before it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(tower, _fast_attention(config))


def _check_targets(tower: torch.nn.Module, spec: TuningSpec, owner: str, setting: str) -> None:
    # PEFT complains only when none of the targets is there, and passes over one that is misspelt.
    modules = {name.rsplit(".", 1)[-1]: module for name, module in tower.named_modules() if name}
    if missing := [target for target in spec.targets if target not in modules]:
        raise ValueError(
            f"The adapter targets {missing} are not in {owner!r}. Its modules: {sorted(modules)}. Set {setting}."
        )
    fused = [name for name in spec.targets if isinstance(modules[name], torch.nn.MultiheadAttention)]
    if spec.kind == "dora" and fused:
        raise ValueError(
            f"DoRA cannot decompose the fused attention {fused} of {owner!r}. Set alignment.lora.targets to linear "
            "modules, such as [c_fc, c_proj], or alignment.tune: lora."
        )


def _is_transposed(tower: torch.nn.Module, spec: TuningSpec) -> bool:
    """Says whether the targets hold their weights as [in, out], as GPT-2's layers do."""
    return any(
        type(module).__name__ == "Conv1D" and name.rsplit(".", 1)[-1] in spec.targets
        for name, module in tower.named_modules()
    )


def _fast_attention(config: Any) -> Any:
    """Returns a LoRA configuration under which fused attention gets our layer in place of PEFT's."""
    from gmail_kedro.models.student.lora_attention import FactoredAttention

    config._register_custom_module({torch.nn.MultiheadAttention: FactoredAttention})
    return config


def trainable_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Returns the parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def save_tuned(tower: Any, spec: TuningSpec, folder: Path) -> None:
    """Writes what was trained: PEFT's two files, or the whole tower as safetensors; nothing for ``none``."""
    folder.mkdir(parents=True, exist_ok=True)
    if spec.is_adapter:
        save_adapter(tower, folder)
    elif spec.kind == "full":
        save_weights(folder / TOWER_FILE, tower.state_dict())


def save_adapter(model: Any, folder: Path) -> None:
    """Writes PEFT's wrapper around a model as PEFT does, in bytes that its content alone decides."""
    # PEFT's default for embeddings may ask the hub whether the base model's vocabulary grew; none are trained here.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT holds the names of targets as a set and writes them in its order, which changes from process to process.
    path = folder / CONFIG_FILE
    facts = json.loads(path.read_text())
    for key in UNORDERED:
        if isinstance(facts.get(key), list):
            facts[key] = sorted(facts[key])
    path.write_text(json.dumps(facts, indent=2, sort_keys=True))


def load_tuned(tower: Any, spec: TuningSpec, folder: Path, *, owner: str) -> torch.nn.Module:
    """Puts stored training into an untuned tower, in place, adapters merged; returns it frozen, in eval mode.

    Raises:
        MissingWeightsError: If the folder does not hold what the spec says, or it does not fit the tower.
    """
    if spec.kind == "none":
        return tower
    wanted = folder / (WEIGHTS_FILE if spec.is_adapter else TOWER_FILE)
    if not wanted.is_file():
        raise MissingWeightsError(f"There is no {wanted.name} in {folder}. Train it: kedro run --pipeline=align")
    if spec.is_adapter:
        # Merged, an adapter costs nothing at inference, and the tower is a plain one for whoever takes it next.
        tower = load_adapter(tower, folder, owner=owner).merge_and_unload()
    else:
        load_file_strictly(f"{owner} (its tuned tower)", tower, wanted)
    return tower.eval().requires_grad_(False)


def load_adapter(base: torch.nn.Module, folder: Path, *, owner: str) -> Any:
    """Returns PEFT's wrapper around a model, changed in place, with a stored adapter in it, every tensor from the file.

    Raises:
        MissingWeightsError: If tensors are missing, without a place in the model, or of another shape.
    """
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict

    file = folder / WEIGHTS_FILE
    try:
        stored = read_shapes(file)
        config = _fast_attention(LoraConfig.from_pretrained(str(folder)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is counted below
            # Other shapes are named below, all at once, together with what is missing.
            model = PeftModel.from_pretrained(base, str(folder), config=config, ignore_mismatched_sizes=True)
    except Exception as error:
        raise MissingWeightsError(
            f"The adapter in {file} could not be put into {owner!r}: {reason_of(error)}. {REMEDY}"
        ) from error
    expected = shapes_of(get_peft_model_state_dict(model, save_embedding_layers=False))
    refuse_other_shapes(f"{owner} (its adapter)", expected, stored, source=str(file), remedy=REMEDY)
    return model
