"""The one class behind every encoder of the zoo: its towers, what joins them, and how pictures and texts go in."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.interfaces import Contrast

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Towers:
    """The parts of a loaded model.

    Attributes:
        image: Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W'].
        text: Maps token ids [B, L] to embeddings [B, D]; None for a vision-only model.
        projection: [W, D], or None where W is D.
        contrast: How the model's own image-text loss reads cosines.
        pooled_dim: W, width of the pooled features.
    """

    image: torch.nn.Module
    text: torch.nn.Module | None
    projection: torch.Tensor | None
    contrast: Contrast
    pooled_dim: int


@dataclass(frozen=True)
class Reading:
    """How pictures and texts become tensors.

    Attributes:
        preprocess: Maps a picture to float32 [3, H, W].
        tokenizer: One of open_clip's tokenizers; None for a vision-only model.
    """

    preprocess: Callable[["Image"], torch.Tensor]
    tokenizer: Any = None


@dataclass(frozen=True)
class Family:
    """What a library's image towers have in common.

    Attributes:
        lora_targets: Modules in which every LoRA tensor gets a gradient.
        block_pattern: Name of the list of transformer blocks.
        drop_patches: Sets the share of patches that training leaves out; None where the tower cannot.
        checkpoint_activations: Makes the tower compute activations again in the backward pass.
        run_prefix: Maps images to what the first so many blocks make of them; None where the tower cannot be cut.
        run_suffix: Maps that to pooled features and patch tokens.
    """

    lora_targets: tuple[str, ...]
    block_pattern: str
    drop_patches: Callable[[torch.nn.Module, float], None] | None
    checkpoint_activations: Callable[[torch.nn.Module], None]
    run_prefix: Callable[[torch.nn.Module, torch.Tensor, int], torch.Tensor] | None = None
    run_suffix: Callable[[torch.nn.Module, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]] | None = None


class TowerEncoder:
    """A model of any family behind the house's ``ImageTextEncoder`` protocol.

    Args:
        name: Name of the model.
        towers: The parts of the model, in eval mode.
        reading: How pictures and texts go in.
        family: What its library's towers have in common.
        fingerprint: Hash of weights, configuration, preprocessing and tokenizer.
    """

    def __init__(self, name: str, *, towers: Towers, reading: Reading, family: Family, fingerprint: str) -> None:
        self.name, self.fingerprint = name, fingerprint
        self.image_tower, self.text_tower, self.projection = towers.image, towers.text, towers.projection
        self.contrast, self.pooled_dim = towers.contrast, towers.pooled_dim
        self.embed_dim = towers.pooled_dim if towers.projection is None else int(towers.projection.shape[1])
        self.context_length = 0 if reading.tokenizer is None else int(reading.tokenizer.context_length)
        self.lora_targets, self.block_pattern = family.lora_targets, family.block_pattern
        self.block_count = len(find_blocks(towers.image, family.block_pattern))
        self.head: torch.nn.Module | None = None  # a trained head, in place of the projection
        self.route: str | None = None  # the only modality it may encode, or None for a teacher, which takes both
        self._reading, self._family = reading, family

    def preprocess(self, image: "Image") -> torch.Tensor:
        """Maps a picture to float32 [3, H, W]."""
        return self._reading.preprocess(image)

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Maps texts to ids [B, L]; a longer text is cut and its end token kept.

        Raises:
            ValueError: If the model is vision-only.
        """
        return self._tokenizer()(list(texts))

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Counts texts that need more than ``context_length`` tokens.

        Raises:
            ValueError: If the model is vision-only.
        """
        tokenizer = self._tokenizer()
        hugging_face = getattr(tokenizer, "tokenizer", None)
        if hugging_face is not None:
            cleaned = [tokenizer.clean_fn(text) for text in texts]
            lengths = [
                len(ids) for ids in hugging_face(cleaned, truncation=False, padding=False, verbose=False).input_ids
            ]
        else:
            lengths = [len(tokenizer.encode(text)) + 2 for text in texts]
        return sum(length > self.context_length for length in lengths)

    def pool_image(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to the tower's pooled features [B, W] and patch tokens [B, P, W']."""
        pooled, tokens = self.image_tower(images)
        return pooled, tokens

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to embeddings [B, D], not normalised."""
        pooled, _ = self.image_tower(images)
        return self.project(pooled)

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """Maps pooled features [B, W] to embeddings [B, D]."""
        if self.head is not None:
            return self.head(pooled)
        return pooled if self.projection is None else pooled @ self.projection

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps ids [B, L] to embeddings [B, D], not normalised.

        Raises:
            ValueError: If the model is vision-only.
        """
        if self.text_tower is None:
            raise self._no_text_tower()
        with _short_texts(self.text_tower, tokens) as short:
            return self.text_tower(short)

    def drop_patches(self, fraction: float) -> None:
        """Leaves out a random share of the patches while the tower is in training mode.

        Args:
            fraction: Share that is left out, in [0, 1).

        Raises:
            ValueError: If the share is out of range, or the tower has no patch dropout.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"The share of dropped patches must be in [0, 1). Got {fraction} instead.")
        if self._family.drop_patches is None:
            raise ValueError(f"The image tower of {self.name!r} cannot drop patches. Set the share to 0.")
        self._family.drop_patches(self.image_tower, fraction)

    def checkpoint_activations(self) -> None:
        """Trades time for memory: activations of the blocks are computed again in the backward pass."""
        self._family.checkpoint_activations(self.image_tower)

    def run_prefix(self, images: torch.Tensor, *, blocks: int) -> torch.Tensor:
        """Maps images to the output of the first so many transformer blocks, [B, L, W'].

        Raises:
            ValueError: If this family's towers cannot be cut.
        """
        if self._family.run_prefix is None:
            raise ValueError(f"The image tower of {self.name!r} cannot be cut. Set alignment.cache_prefix: false.")
        return self._family.run_prefix(self.image_tower, images, blocks)

    def run_suffix(self, hidden: torch.Tensor, *, blocks: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps the output of the first so many blocks to pooled features [B, W] and patch tokens [B, P, W'].

        Raises:
            ValueError: If this family's towers cannot be cut.
        """
        if self._family.run_suffix is None:
            raise ValueError(f"The image tower of {self.name!r} cannot be cut. Set alignment.cache_prefix: false.")
        return self._family.run_suffix(self.image_tower, hidden, blocks)

    def _tokenizer(self) -> Any:
        if self._reading.tokenizer is None:
            raise self._no_text_tower()
        return self._reading.tokenizer

    def _no_text_tower(self) -> ValueError:
        return ValueError(
            f"The encoder {self.name!r} has no text tower: it reads pictures only. For texts, take an image-text "
            "encoder such as a CLIP."
        )


@contextlib.contextmanager
def _short_texts(tower: torch.nn.Module, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
    """Cuts off the padding that no text of a batch needs, while the body runs.

    A causal tower that pools at its end token (the highest id) never sees what comes after it, so most of CLIP's 77
    positions need not be computed. Towers that read their padding, as SigLIP's does, get all of it.
    """
    owner = next((module for module in tower.modules() if module._buffers.get("attn_mask") is not None), None)
    if owner is None or getattr(owner, "pool_type", "") != "argmax":
        yield tokens
        return
    length = int(tokens.argmax(dim=1).max()) + 1
    mask = owner._buffers["attn_mask"]
    assert mask is not None
    owner.attn_mask = mask[:length, :length]
    try:
        yield tokens[:, :length]
    finally:
        owner.attn_mask = mask


def find_blocks(tower: torch.nn.Module, pattern: str) -> list[torch.nn.Module]:
    """Returns the transformer blocks of a tower.

    Raises:
        ValueError: If the tower has no list of that name.
    """
    for name, module in tower.named_modules():
        if name.rsplit(".", 1)[-1] == pattern:
            return list(module.children())
    raise ValueError(f"The image tower {type(tower).__name__} has no {pattern!r}. Only transformer towers can be used.")


def find_part(tower: torch.nn.Module, name: str) -> torch.nn.Module:
    """Returns the first module of a tower that has the attribute, wrapped or not.

    Raises:
        ValueError: If none has it.
    """
    for module in tower.modules():
        if name in module.__dict__ or name in module._modules or hasattr(type(module), name):
            return module
    raise ValueError(f"The image tower {type(tower).__name__} has no part with {name!r}.")
