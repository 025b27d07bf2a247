"""timm's vision transformers as image towers: what SigLIP and SynCLR see with."""

from typing import Any

import torch

from gmail_kedro.models.encoders.towers import Family, find_part


class TimmTower(torch.nn.Module):
    """A timm vision transformer without its classifier.

    Args:
        trunk: timm's ``VisionTransformer``.
    """

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooled_dim = int(trunk.num_features)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W]."""
        states = self.trunk.forward_features(images)
        return self.trunk.forward_head(states), states[:, self.trunk.num_prefix_tokens :]


def _drop_patches(tower: torch.nn.Module, fraction: float) -> None:
    from timm.layers import PatchDropout

    owner: Any = find_part(tower, "patch_drop")
    owner.patch_drop = PatchDropout(fraction, num_prefix_tokens=owner.num_prefix_tokens).train(owner.training)


def _checkpoint_activations(tower: torch.nn.Module) -> None:
    find_part(tower, "grad_checkpointing").grad_checkpointing = True  # type: ignore[assignment]


TIMM_VIT = Family(
    lora_targets=("qkv", "proj", "fc1", "fc2"),
    block_pattern="blocks",
    drop_patches=_drop_patches,
    checkpoint_activations=_checkpoint_activations,
)
