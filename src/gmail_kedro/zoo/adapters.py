"""Adapters: LoRA on an encoder's image tower through PEFT, in PEFT's own files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gmail_kedro.zoo.encoders import OpenClipEncoder
from gmail_kedro.zoo.registry import MissingWeightsError, hash_folder

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter folder on disk.

    Attributes:
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        fingerprint: Hash of both.
    """

    folder: Path
    fingerprint: str


def add_adapter(
    encoder: OpenClipEncoder, *, rank: int, alpha: float, dropout: float, targets: list[str], seed: int
) -> "PeftModel":
    """Puts a fresh LoRA adapter into the encoder's image tower and returns the wrapped tower.

    A fresh adapter changes nothing: its second factor is zero.

    Args:
        encoder: Changed in place; its image tower becomes the wrapped one.
        rank: Rank r of each pair of factors.
        alpha: The update is scaled by ``alpha / rank``.
        dropout: Dropout before the first factor.
        targets: Names of the modules that get factors.
        seed: Seeds the first factors.

    Raises:
        ValueError: If no module of the tower has one of the names; lists names that exist.
    """
    from peft import LoraConfig, get_peft_model

    known = sorted({name.rsplit(".", 1)[-1] for name, _ in encoder.image_tower.named_modules() if name})
    if missing := [target for target in targets if target not in known]:
        raise ValueError(
            f"The adapter targets {missing} are not in the image tower of {encoder.name!r}. Its modules: {known}. "
            "Set alignment.lora_targets."
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = get_peft_model(encoder.image_tower, config)
    _keep_attention_exact(tower)
    encoder.image_tower = tower
    return tower


def _keep_attention_exact(tower: "PeftModel") -> None:
    """Puts the frozen attention weights back, bit for bit, after every forward pass.

    PEFT adds the update to the fused projections for the pass and subtracts it afterwards. What rounding leaves
    behind would add up: the frozen weights would drift, and a resumed run would not equal a straight one.
    """
    from peft.tuners.lora.layer import MultiheadAttention

    for module in tower.modules():
        if not isinstance(module, MultiheadAttention):
            continue
        attention = module.get_base_layer()
        entry = attention.in_proj_weight.detach().clone()
        leave = attention.out_proj.get_base_layer().weight.detach().clone()

        def restore(_: object, __: object, ___: object, kept: tuple = (attention, entry, leave)) -> None:
            kept[0].in_proj_weight.data.copy_(kept[1])
            kept[0].out_proj.get_base_layer().weight.data.copy_(kept[2])

        module.register_forward_hook(restore)


def trainable_parameters(tower: "PeftModel") -> list[torch.nn.Parameter]:
    """Returns the parameters that training changes: the adapter's."""
    return [parameter for parameter in tower.parameters() if parameter.requires_grad]


def open_adapter(folder: Path) -> StoredAdapter:
    """Returns the adapter stored in a folder.

    Raises:
        MissingWeightsError: If there is none; says how to make it.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise MissingWeightsError(
            f"There is no adapter at {folder} (expected {WEIGHTS_FILE}). Train it: kedro run --pipeline=align"
        )
    return StoredAdapter(folder=folder, fingerprint=hash_folder(folder))


def load_student(encoder: OpenClipEncoder, adapter: StoredAdapter) -> OpenClipEncoder:
    """Merges a stored adapter into the encoder's image tower, in place, and returns the encoder.

    The fingerprint becomes that of base and adapter together, so cached features never mix.
    """
    import hashlib

    from peft import PeftModel

    tower = PeftModel.from_pretrained(encoder.image_tower, str(adapter.folder)).merge_and_unload()
    encoder.image_tower = tower.eval().requires_grad_(False)
    encoder.fingerprint = hashlib.sha256(f"{encoder.fingerprint}{adapter.fingerprint}".encode()).hexdigest()
    return encoder
