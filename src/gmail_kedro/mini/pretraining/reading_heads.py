"""Reading losses that help a small vision transformer along: what a scene shows, read off its features.

Texts alone teach a small tower to read slowly. The heads are used in training only and thrown away.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.mini.world.scanned_digits import Scans
from gmail_kedro.mini.world.scenes import INKS, PAPERS, PATTERNS, SINGLE_POSITIONS, SIZES, Scene, map_digits

FACTS = {
    "first": range(10),
    "second": range(11),
    "ink": tuple(INKS),
    "paper": tuple(PAPERS),
    "pattern": PATTERNS,
    "size": SIZES,
    "position": SINGLE_POSITIONS,
}
DIGIT_CLASSES = 11


class ReadingHeads(torch.nn.Module):
    """Linear heads that read facts off the embedding and digits off the patch tokens; used in training only.

    Args:
        embed_dim: Width of the embedding.
        token_dim: Width of the patch tokens.
    """

    def __init__(self, embed_dim: int, token_dim: int) -> None:
        super().__init__()
        self.facts = torch.nn.ModuleList([torch.nn.Linear(embed_dim, len(values)) for values in FACTS.values()])
        self.digit = torch.nn.Linear(token_dim, DIGIT_CLASSES)

    def loss(
        self, embedding: torch.Tensor, patch_tokens: torch.Tensor, facts: torch.Tensor, patches: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mean cross-entropy over facts, plus that over patches.

        Args:
            embedding: [B, D].
            patch_tokens: [B, P, W].
            facts: Class of each fact, int64 [B, 7].
            patches: Digit on each patch, int64 [B, P].
        """
        read = [F.cross_entropy(head(embedding).float(), facts[:, i]) for i, head in enumerate(self.facts)]
        digits = self.digit(patch_tokens).float()
        return torch.stack(read).mean() + F.cross_entropy(digits.flatten(0, 1), patches.flatten())


def scene_facts(scenes: Sequence[Scene]) -> torch.Tensor:
    """Returns the class of each fact of each scene, int64 [N, 7]."""
    return torch.tensor([[_fact(scene, name) for name in FACTS] for scene in scenes])


def digits_on_patches(scenes: Sequence[Scene], scans: Scans, *, patch: int) -> torch.Tensor:
    """Returns which digit stands on each patch, int64 [N, P]; 10 where there is no ink.

    Args:
        scenes: The facts.
        scans: The handwriting they are drawn from.
        patch: Side of a patch, in pixels.
    """
    return torch.from_numpy(np.stack([map_digits(scene, scans, patch=patch).reshape(-1) for scene in scenes]))


def _fact(scene: Scene, name: str) -> int:
    """Returns the class index of one fact of a scene."""
    if name == "first":
        return scene.digits[0]
    if name == "second":
        return scene.digits[1] if len(scene.digits) == 2 else 10
    return list(FACTS[name]).index(getattr(scene, name))
