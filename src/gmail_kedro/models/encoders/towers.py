"""The one class behind every encoder: an image tower, perhaps a text tower, and how images and texts go in.

What differs between open_clip, timm and transformers is kept in a ``TowerFamily`` of a few functions, so that LoRA,
patch dropout, activation checkpointing and the cut after a number of blocks need no second class. The image tower
itself is a plain module that maps images to pooled features and patch tokens: the place where adapters go in.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class TowerFamily:
    """What a library's image towers have in common.

    Attributes:
        lora_targets: Modules in which every LoRA tensor gets a gradient.
        block_pattern: Name of the list of transformer blocks, as PEFT's ``layers_pattern``.
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
    """A model of any family, as ``interfaces.ImageTextEncoder`` describes it. Embeddings are not normalised.

    Args:
        name: Name of the model.
        image_tower: Maps images [B, 3, H, W] to pooled features [B, W] and patch tokens [B, P, W'].
        text_tower: Maps token ids [B, L] to embeddings [B, D]; None for a vision-only model.
        projection: The frozen projection [W, D], or None where W is D and nothing is projected.
        pooled_dim: W, width of the pooled features.
        logit_scale: What the model's own loss multiplies cosines by, one over the temperature.
        logit_bias: What a sigmoid loss (SigLIP) adds to them; None for a softmax loss (CLIP).
        preprocess: Maps an image to float32 [3, H, W].
        tokenizer: One of open_clip's tokenizers; None for a vision-only model.
        family: What its library's image towers have in common.
        fingerprint: Hash of weights, configuration, preprocessing and tokenizer.
    """

    def __init__(
        self,
        name: str,
        *,
        image_tower: torch.nn.Module,
        text_tower: torch.nn.Module | None,
        projection: torch.Tensor | None,
        pooled_dim: int,
        logit_scale: float,
        logit_bias: float | None,
        preprocess: Callable[["Image"], torch.Tensor],
        tokenizer: Any,
        family: TowerFamily,
        fingerprint: str,
    ) -> None:
        self.name, self.fingerprint = name, fingerprint
        self.image_tower, self.text_tower, self.projection = image_tower, text_tower, projection
        self.pooled_dim = pooled_dim
        self.embed_dim = pooled_dim if projection is None else int(projection.shape[1])
        self.logit_scale, self.logit_bias = logit_scale, logit_bias
        self.tokenizer = tokenizer
        self.context_length = 0 if tokenizer is None else int(tokenizer.context_length)
        self.lora_targets, self.block_pattern = family.lora_targets, family.block_pattern
        self.block_count = len(find_blocks(image_tower, family.block_pattern))
        self.head: torch.nn.Module | None = None  # a trained head, in place of the projection
        self.route: str | None = None  # the only modality it may encode, or None for a teacher, which takes both
        self._preprocess, self._family = preprocess, family

    def preprocess(self, image: "Image") -> torch.Tensor:
        """Maps an image to float32 [3, H, W]."""
        return self._preprocess(image)

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Maps texts to ids [B, L]; a longer text is cut and its end token kept.

        Raises:
            ValueError: If the model is vision-only.
        """
        return self._text_tokenizer()(list(texts))

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Counts texts that need more than ``context_length`` tokens.

        Raises:
            ValueError: If the model is vision-only.
        """
        tokenizer = self._text_tokenizer()
        hugging_face = getattr(tokenizer, "tokenizer", None)
        if hugging_face is not None:
            cleaned = [tokenizer.clean_fn(text) for text in texts]
            token_ids = hugging_face(cleaned, truncation=False, padding=False, verbose=False).input_ids
            lengths = [len(ids) for ids in token_ids]
        else:
            lengths = [len(tokenizer.encode(text)) + 2 for text in texts]  # its encode adds no start and no end
        return sum(length > self.context_length for length in lengths)

    def pool_image(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to the tower's pooled features [B, W] and patch tokens [B, P, W']."""
        pooled, tokens = self.image_tower(images)  # [B, W], [B, P, W']
        return pooled, tokens

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to embeddings [B, D], not normalised."""
        pooled, _ = self.image_tower(images)  # [B, W]
        return self.project(pooled)

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """Maps pooled features [B, W] to embeddings [B, D]: by the trained head, or else by the frozen projection."""
        if self.head is not None:
            return self.head(pooled)
        return pooled if self.projection is None else pooled @ self.projection  # [B, W] @ [W, D]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps ids [B, L] to embeddings [B, D], not normalised.

        Raises:
            ValueError: If the model is vision-only.
        """
        if self.text_tower is None:
            raise self._no_text_tower()
        with _without_padding(self.text_tower, tokens) as short:
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
        """Maps images [B, 3, H, W] to the output of the first so many transformer blocks, [B, L, W'].

        Blocks below the first adapter never change, so their output can be computed once and kept.

        Raises:
            ValueError: If this family's towers cannot be cut.
        """
        if self._family.run_prefix is None:
            raise self._uncuttable()
        return self._family.run_prefix(self.image_tower, images, blocks)

    def run_suffix(self, hidden: torch.Tensor, *, blocks: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps what the first so many blocks gave, [B, L, W'], to pooled features [B, W] and patch tokens [B, P, W'].

        Raises:
            ValueError: If this family's towers cannot be cut.
        """
        if self._family.run_suffix is None:
            raise self._uncuttable()
        return self._family.run_suffix(self.image_tower, hidden, blocks)

    def _text_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise self._no_text_tower()
        return self.tokenizer

    def _no_text_tower(self) -> ValueError:
        return ValueError(
            f"The encoder {self.name!r} has no text tower: it reads images only. For texts, take an image-text "
            "encoder such as a CLIP."
        )

    def _uncuttable(self) -> ValueError:
        return ValueError(f"The image tower of {self.name!r} cannot be cut. Set alignment.cache_prefix: false.")


@contextlib.contextmanager
def _without_padding(tower: torch.nn.Module, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
    """Cuts off the padding that no text of a batch [B, L] needs, while the body runs.

    A causal tower that pools at its end token (the highest id) never sees what comes after it, so most of CLIP's 77
    positions need not be computed. Towers that read their padding, as SigLIP's does, get all of it.
    """
    owner = next((module for module in tower.modules() if module._buffers.get("attn_mask") is not None), None)
    if owner is None or getattr(owner, "pool_type", "") != "argmax":
        yield tokens
        return
    length = int(tokens.argmax(dim=1).max()) + 1
    mask = owner._buffers["attn_mask"]  # [L, L]
    assert mask is not None
    # open_clip's tower adds the whole mask whatever the length of the texts, so the mask has to be cut as well.
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
        # Not hasattr on the module: PEFT's wrappers hand every unknown name on to what they wrap.
        if name in module.__dict__ or name in module._modules or hasattr(type(module), name):
            return module
    raise ValueError(f"The image tower {type(tower).__name__} has no part with {name!r}.")
