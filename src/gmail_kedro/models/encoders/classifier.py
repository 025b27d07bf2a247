"""A vision transformer with a linear classifier on its class token: what fine-tuning trains, by SynCLR's recipe.

Everything in the recipe is timm's: drop path, layer-wise learning rates, augmentation, mixup and CutMix. Unlike
everywhere else in alignment every weight moves, so what is stored is whole towers, one for each classification set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.encoders.open_clip_encoder import TimmTower
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.fingerprints import finish_folder, open_folder, save_weights
from gmail_kedro.models.strict_loading import load_file_strictly
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.params.fine_tuning import FineTuningParams

if TYPE_CHECKING:
    from timm.data.mixup import Mixup

RECIPE_FILE = "classifiers.json"
REMEDY = "Fine-tune again: kedro run --pipeline=fine_tuning"
HEAD_DEVIATION = 2e-5
ERASING = "pixel"  # what is erased becomes noise, pixel by pixel
Transform = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class Classifiers:
    """Fine-tuned towers with their classifiers, one for each set; there may be none.

    Attributes:
        states: Weights by set: the moving average of training.
        class_counts: Number of classes by set.
        encoder: Fingerprint of the real route they started from.
    """

    states: Mapping[str, Mapping[str, torch.Tensor]]
    class_counts: Mapping[str, int]
    encoder: str

    def save_pretrained(self, folder: Path) -> None:
        """Writes each set's weights as safetensors, the recipe, and the checksums of all."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, state in self.states.items():
            save_weights(folder / f"{name}.safetensors", state)
        finish_folder(folder, RECIPE_FILE, {"encoder": self.encoder, "class_counts": dict(self.class_counts)})


def build_classifier(encoder: TowerEncoder, class_count: int, *, drop_path: float, seed: int) -> Any:
    """Turns a vision-only encoder's tower, in place, into a classifier of which every weight is trained.

    ``drop_path`` is the largest share of images that skip a block; the seed is the new head's.

    Returns:
        timm's vision transformer: images [B, 3, H, W] to logits [B, class_count].

    Raises:
        ValueError: If the encoder reads texts, or its tower is not timm's.
    """
    from timm.layers import DropPath, calculate_drop_path_rates, trunc_normal_

    tower = encoder.image_tower
    if encoder.text_tower is not None or not isinstance(tower, TimmTower):
        raise ValueError(
            f"Only a vision-only encoder with timm's tower is fine-tuned by SynCLR's recipe. Got {encoder.name!r} "
            "instead. Set fine_tuning.sets: [], or run.encoder to a SynCLR."
        )
    model, device = tower.trunk, next(tower.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(class_count)
        trunc_normal_(model.head.weight, std=HEAD_DEVIATION)  # nearly zero, as the recipe has it
        torch.nn.init.zeros_(model.head.bias)
    rates: list[Any] = calculate_drop_path_rates(drop_path, len(model.blocks))
    for rate, block in zip(rates, model.blocks, strict=True):
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
    return model.to(device).requires_grad_(True)


def load_classifier(encoder: TowerEncoder, folder: Path, name: str, class_count: int) -> torch.nn.Module:
    """Returns the stored classifier of a set, in eval mode; the encoder it was trained on is changed in place.

    Raises:
        MissingWeightsError: If the folder holds none for the set, or it does not fit.
        ValueError: If it started from another encoder, or has another number of classes.
    """
    facts, _ = open_folder(folder, RECIPE_FILE, what=f"classifier for {name!r}", remedy=REMEDY)
    if name not in facts["class_counts"]:
        raise MissingWeightsError(f"There is no classifier for {name!r} at {folder}. {REMEDY}")
    if facts["encoder"] != encoder.fingerprint or facts["class_counts"][name] != class_count:
        raise ValueError(
            f"The classifier for {name!r} in {folder} was fine-tuned from another real route of {encoder.name!r}, or "
            f"on another number of classes than {class_count}. {REMEDY}"
        )
    model = build_classifier(encoder, class_count, drop_path=0.0, seed=0)
    load_file_strictly(f"{encoder.name} (its classifier for {name})", model, folder / f"{name}.safetensors")
    return model.eval().requires_grad_(False)


def layer_groups(model: Any, params: FineTuningParams, *, learning_rate: float) -> list[dict[str, Any]]:
    """Returns the optimizer's groups: earlier blocks learn slower, and biases, norms and tokens do not decay.

    The learning rate is the head's.
    """
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(
        model, params.weight_decay, no_weight_decay_list=model.no_weight_decay(), layer_decay=params.layer_decay
    )
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": learning_rate * group["lr_scale"]}
        for group in groups
    ]


def training_transform(encoder: TowerEncoder, params: FineTuningParams) -> Transform:
    """Returns what maps an image to float32 [3, H, W] at random: crop, flip, policy, erasing; CLIP's normalisation."""
    return _transform(
        encoder,
        is_training=True,
        hflip=params.flip,
        color_jitter=None,
        auto_augment=params.auto_augment,
        re_prob=params.random_erasing,
        re_mode=ERASING,
    )


def measuring_transform(encoder: TowerEncoder, params: FineTuningParams) -> Transform:
    """Returns what maps an image to float32 [3, H, W] when it is measured: resized, its middle cut out."""
    return _transform(encoder, is_training=False, crop_pct=params.crop_share)


def _transform(encoder: TowerEncoder, **options: Any) -> Transform:
    """Returns timm's transform to images of the encoder's size, normalised as SynCLR's are, which is CLIP's way."""
    from PIL import Image
    from timm.data import create_transform
    from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    side = encoder.preprocess(Image.new("RGB", (8, 8))).shape[-1]  # no encoder says its size, each can be asked
    return create_transform(side, interpolation="bicubic", mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD, **options)


def build_mixup(class_count: int, params: FineTuningParams) -> "Mixup":
    """Returns what mixes images [B, 3, H, W] and labels [B], B even, and smooths labels to targets [B, C]."""
    from timm.data.mixup import Mixup

    is_mixed = params.mixup > 0 or params.cutmix > 0
    return Mixup(
        mixup_alpha=params.mixup,
        cutmix_alpha=params.cutmix,
        prob=1.0 if is_mixed else 0.0,
        label_smoothing=params.label_smoothing,
        num_classes=class_count,
    )
