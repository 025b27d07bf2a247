"""What is tuned in a tower: LoRA or DoRA through PEFT, in PEFT's own files, or every weight."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.zoo.registry import MissingWeightsError

WEIGHTS_FILE, TOWER_FILE = "adapter_model.safetensors", "tower.safetensors"


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

    @property
    def is_adapter(self) -> bool:
        """Whether PEFT wraps the tower."""
        return self.kind in ("lora", "dora")


def tune_tower(tower: torch.nn.Module, spec: TuningSpec, *, owner: str, seed: int) -> torch.nn.Module:
    """Returns the tower ready to be trained; at first it computes what it did before.

    Args:
        tower: Changed in place.
        spec: Which of its weights are trained.
        owner: The encoder's name, for messages.
        seed: Seeds the first factors; the second are zero.

    Raises:
        ValueError: If a target does not exist, or DoRA is asked for on fused attention.
    """
    if spec.kind == "full":
        return tower.requires_grad_(True)
    if not spec.is_adapter:
        return tower
    _check_targets(tower, spec, owner)
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
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(tower, config)
    _keep_attention_exact(wrapped)
    return wrapped


def _check_targets(tower: torch.nn.Module, spec: TuningSpec, owner: str) -> None:
    modules = {name.rsplit(".", 1)[-1]: module for name, module in tower.named_modules() if name}
    if missing := [target for target in spec.targets if target not in modules]:
        raise ValueError(
            f"The adapter targets {missing} are not in the tower of {owner!r}. Its modules: {sorted(modules)}. "
            "Set alignment.lora_targets, or null for the encoder's own."
        )
    fused = [name for name in spec.targets if isinstance(modules[name], torch.nn.MultiheadAttention)]
    if spec.kind == "dora" and fused:
        raise ValueError(
            f"DoRA cannot decompose the fused attention {fused} of {owner!r}. Set alignment.lora_targets to linear "
            "modules, such as [c_fc, c_proj], or alignment.tune: lora."
        )


def _keep_attention_exact(tower: torch.nn.Module) -> None:
    """Puts the frozen attention weights back, bit for bit, after every forward pass.

    PEFT adds the update to the fused projections for the pass and subtracts it afterwards. What rounding leaves
    behind would add up: the frozen weights would drift, and a resumed run would not equal a straight one.
    """
    from peft.tuners.lora.layer import MultiheadAttention

    for module in tower.modules():
        if not isinstance(module, MultiheadAttention):
            continue
        attention: Any = module.get_base_layer()
        entry = attention.in_proj_weight.detach().clone()
        leave = attention.out_proj.get_base_layer().weight.detach().clone()

        def restore(_: object, __: object, ___: object, kept: tuple = (attention, entry, leave)) -> None:
            kept[0].in_proj_weight.data.copy_(kept[1])
            kept[0].out_proj.get_base_layer().weight.data.copy_(kept[2])

        module.register_forward_hook(restore)


def trainable_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Returns the parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def save_tuned(tower: Any, spec: TuningSpec, folder: Path) -> None:
    """Writes what was trained: PEFT's two files, or the whole tower as safetensors; nothing for ``none``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if spec.is_adapter:
        tower.save_pretrained(str(folder), save_embedding_layers=False)  # they are never trained
    elif spec.kind == "full":
        save_file({name: value.contiguous() for name, value in tower.state_dict().items()}, folder / TOWER_FILE)


def load_tuned(tower: Any, spec: TuningSpec, folder: Path) -> torch.nn.Module:
    """Puts stored training into a tower, in place, adapters merged; returns the tower, frozen, in eval mode.

    Raises:
        MissingWeightsError: If the folder does not hold what the spec says.
    """
    from safetensors.torch import load_file

    if spec.kind == "none":
        return tower
    wanted = folder / (WEIGHTS_FILE if spec.is_adapter else TOWER_FILE)
    if not wanted.is_file():
        raise MissingWeightsError(f"There is no {wanted.name} in {folder}. Train it: kedro run --pipeline=align")
    if spec.is_adapter:
        from peft import PeftModel

        tower = PeftModel.from_pretrained(tower, str(folder)).merge_and_unload()
    else:
        tower.load_state_dict(load_file(wanted))
    return tower.eval().requires_grad_(False)
