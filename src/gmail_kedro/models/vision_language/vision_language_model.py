"""LLaVA: a frozen CLIP tower, a projector of two linear layers, and a language model that reads patches among tokens.

What GMAIL changes is the tower alone: images of each modality go through the tower of their own route (in
``vision_towers.py``), and what is here is given the tower's states. So one model can learn from generated images and
answer about real ones, and the states, which training does not change, can be computed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from gmail_kedro.models.fingerprints import hash_model, language_settings
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, Chat, Conversation, TokenBatch, collate
from gmail_kedro.whole_files import hash_tensors

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_STRATEGY = "default"

Preprocess = Callable[["Image"], torch.Tensor]


@dataclass(frozen=True)
class VisionFeatures:
    """Which of the tower's hidden states become an image's tokens, by the names of transformers' LLaVA."""

    vision_feature_layer: int  # number of the hidden state; LLaVA reads -2
    vision_feature_select_strategy: str  # default leaves the class token out, full keeps it

    def select(self, tower: Any, pixels: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to the tower's states [B, P, W]."""
        hidden = tower(pixels, output_hidden_states=True).hidden_states[self.vision_feature_layer]  # [B, 1 + P, W]
        return hidden[:, 1:] if self.vision_feature_select_strategy == DEFAULT_STRATEGY else hidden


class VisionLanguageModel(torch.nn.Module):
    """transformers' ``LlavaForConditionalGeneration`` with its chat; of images it is given what a tower made of them.

    Args:
        name: Name of the model.
        model: The model.
        chat: Turns conversations into tokens.
        preprocess: Maps an image to the tower's input, float32 [3, H, W].
        vision_features: What of the tower's states is read.

    Attributes:
        stock_tower: Hash of the vision tower's weights as the model came.
        fingerprint: Hash of the whole model as it came: weights, configuration, chat, tokenizer and preprocessing.
    """

    def __init__(
        self, name: str, model: Any, chat: Chat, *, preprocess: Preprocess, vision_features: VisionFeatures
    ) -> None:
        super().__init__()
        self.name, self.model, self.chat, self.vision_features = name, model, chat, vision_features
        self.preprocess = preprocess
        self.image_token = int(model.config.image_token_id)
        self.stock_tower = hash_tensors(self.vision_tower.state_dict())
        read = [vision_features.vision_feature_layer, vision_features.vision_feature_select_strategy]
        self.fingerprint = hash_model(
            model.state_dict(),
            configuration=[language_settings(model), *read, chat.template, chat.is_structured],
            preprocessing=getattr(preprocess, "settings", None),  # an encoder's is in the encoder's fingerprint
            tokenizer=chat.tokenizer,
        )

    @property
    def patch_count(self) -> int:
        """Number P of tokens an image takes."""
        vision = self.model.config.vision_config
        count = (vision.image_size // vision.patch_size) ** 2
        return count if self.vision_features.vision_feature_select_strategy == DEFAULT_STRATEGY else count + 1

    @property
    def vision_tower(self) -> torch.nn.Module:
        """The tower that is in the model now."""
        return self.model.model.vision_tower

    @property
    def projector(self) -> torch.nn.Module:
        """Maps the tower's states to the width of token embeddings."""
        return self.model.model.multi_modal_projector

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.lm_head.weight.device

    def batch(self, conversations: Sequence[Conversation], *, side: str = "right") -> TokenBatch:
        """Returns conversations side by side, with room for the images' patches, on the model's device."""
        batch = collate(
            conversations,
            image_token=self.image_token,
            patch_count=self.patch_count,
            pad=self.chat.end,
            side=side,
        )
        device = self.device
        return TokenBatch(batch.ids.to(device), batch.labels.to(device), batch.mask.to(device))

    def loss_sum(self, states: torch.Tensor | None, batch: TokenBatch) -> torch.Tensor:
        """Returns the cross-entropy of the answers, summed over the tokens that are learnt.

        Args:
            states: The tower's of each conversation's image [B, P, W], or None for text alone.
            batch: The conversations, padded on the right.
        """
        # Padding is on the right, where causal attention does not see it: no mask.
        hidden = self.model.model(inputs_embeds=self._embed(states, batch.ids)).last_hidden_state[:, :-1]
        targets = batch.labels[:, 1:]
        learnt = targets != IGNORE_INDEX
        # Logits of the answers only: over 128k tokens of LLaMA-3 those of every patch would take gigabytes.
        return F.cross_entropy(self.model.lm_head(hidden[learnt]).float(), targets[learnt], reduction="sum")

    @torch.no_grad()
    def write(self, states: torch.Tensor | None, prompts: Sequence[str], *, max_tokens: int) -> list[str]:
        """Answers prompts greedily.

        Args:
            states: The tower's of each prompt's image [B, P, W], or None for prompts without one.
            prompts: B of them.
            max_tokens: Most tokens of an answer.
        """
        asked = [self.chat.encode_prompt(prompt, with_image=states is not None) for prompt in prompts]
        # On the left, so that every answer follows its own prompt's last token.
        batch = self.batch([Conversation(tuple(ids), (IGNORE_INDEX,) * len(ids)) for ids in asked], side="left")
        written = self.model.generate(
            inputs_embeds=self._embed(states, batch.ids),
            attention_mask=batch.mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.chat.end_tokens,
            pad_token_id=self.chat.end,
        )
        return self.chat.decode(written)

    def _embed(self, states: torch.Tensor | None, ids: torch.Tensor) -> torch.Tensor:
        """Returns what the language model reads, [B, T, W]: token embeddings, and patches where images stand."""
        is_patch = ids == self.image_token  # [B, T]
        # The image's token may lie beyond the embeddings: any other stands for it until it is replaced.
        embedded = self.model.get_input_embeddings()(ids.masked_fill(is_patch, self.chat.end))  # [B, T, W]
        if states is None:
            return embedded
        weight = next(self.projector.parameters())
        patches = self.projector(states.to(weight.device, weight.dtype))  # [B, P, W]
        if int(is_patch.sum()) != patches.shape[0] * patches.shape[1]:
            raise ValueError(
                f"The conversations have room for {int(is_patch.sum())} patches, but the images have "
                f"{patches.shape[0]} times {patches.shape[1]}. Is there exactly one image in each conversation?"
            )
        return embedded.masked_scatter(is_patch[..., None], patches.to(embedded.dtype))
