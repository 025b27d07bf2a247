"""A LLaVA at work: eyes that see pictures of one route, and a language model that learns answers and writes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from gmail_kedro.checksums import hash_tensors
from gmail_kedro.models.fingerprints import hash_model, language_settings
from gmail_kedro.models.student.student import ROUTES
from gmail_kedro.models.vision_language.chat import IGNORED, Chat, Conversation, TokenBatch, collate

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_SELECT = "default"


Preprocessing = Callable[["Image"], torch.Tensor]


class RouteError(ValueError):
    """A picture of one modality that was to be seen through the other's route."""


@dataclass(frozen=True)
class Seeing:
    """What of the tower's states becomes the picture's tokens.

    Attributes:
        layer: Number of the hidden state; LLaVA reads -2.
        select: ``default`` leaves the class token out, ``full`` keeps it.
    """

    layer: int
    select: str

    def tokens_of(self, tower: Any, pixels: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to tokens [B, P, W]."""
        hidden = tower(pixels, output_hidden_states=True).hidden_states[self.layer]
        return hidden[:, 1:] if self.select == DEFAULT_SELECT else hidden


class Eye:
    """The tower of one route, frozen; it sees pictures of its own modality only.

    Args:
        tower: A ``CLIPVisionModel`` that nothing else changes.
        route: ``generated`` or ``real``.
        seeing: What of its states is read.

    Raises:
        ValueError: If the route is unknown.
    """

    def __init__(self, tower: Any, route: str, seeing: Seeing) -> None:
        if route not in ROUTES:
            raise ValueError(f"The route must be one of {list(ROUTES)}. Got {route!r} instead.")
        self._tower, self._seeing = tower.eval().requires_grad_(False), seeing
        self.route, self.fingerprint = route, hash_tensors(tower.state_dict())

    @torch.no_grad()
    def see(self, pixels: torch.Tensor, *, origin: str) -> torch.Tensor:
        """Maps images [B, 3, H, W] to the tower's tokens [B, P, W].

        Args:
            pixels: Preprocessed pictures of one modality.
            origin: Which: ``generated`` or ``real``.

        Raises:
            RouteError: If it is the other modality.
        """
        if origin != self.route:
            raise RouteError(
                f"A {origin} picture was to be seen through the tower of {self.route} pictures. Open the eye of its "
                f"own route: put_tower(…, {origin!r})."
            )
        weight = next(self._tower.parameters())
        return self._seeing.tokens_of(self._tower, pixels.to(weight.device, weight.dtype))


class VisionLanguageModel(torch.nn.Module):
    """transformers' ``LlavaForConditionalGeneration`` with its chat; what it is shown are the tokens that an eye saw.

    Args:
        name: Name of the model.
        model: The model.
        chat: Turns conversations into tokens.
        preprocess: Maps a picture to the tower's input, float32 [3, H, W].
        seeing: What of the tower's states is read.

    Attributes:
        stock_tower: Hash of the vision tower's weights as the model came.
        fingerprint: Hash of the whole model as it came: weights, configuration, chat, tokenizer and preprocessing.
    """

    def __init__(self, name: str, model: Any, chat: Chat, *, preprocess: Preprocessing, seeing: Seeing) -> None:
        super().__init__()
        self.name, self.model, self.chat, self.seeing = name, model, chat, seeing
        self.image_token = int(model.config.image_token_id)
        self.stock_tower = hash_tensors(self.tower.state_dict())
        self._preprocess = preprocess
        self.fingerprint = hash_model(
            model.state_dict(),
            configuration=[language_settings(model), seeing.layer, seeing.select, chat.template, chat.is_structured],
            preprocessing=getattr(preprocess, "settings", None),  # an encoder's is in the encoder's fingerprint
            tokenizer=chat.tokenizer,
        )

    @property
    def patch_count(self) -> int:
        """Number of tokens a picture takes."""
        vision = self.model.config.vision_config
        count = (vision.image_size // vision.patch_size) ** 2
        return count if self.seeing.select == DEFAULT_SELECT else count + 1

    @property
    def tower(self) -> torch.nn.Module:
        """The vision tower that is in the model now."""
        return self.model.model.vision_tower

    @property
    def projector(self) -> torch.nn.Module:
        """Maps the tower's tokens to the language model's."""
        return self.model.model.multi_modal_projector

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.lm_head.weight.device

    def preprocess(self, image: "Image") -> torch.Tensor:
        """Maps a picture to float32 [3, H, W]."""
        return self._preprocess(image)

    def batch(self, conversations: Sequence[Conversation], *, side: str = "right") -> TokenBatch:
        """Returns conversations side by side, with room for the pictures, on the model's device."""
        batch = collate(
            conversations,
            image_token=self.image_token,
            patch_count=self.patch_count,
            pad=self.chat.end,
            side=side,
        )
        device = self.device
        return TokenBatch(batch.ids.to(device), batch.labels.to(device), batch.mask.to(device))

    def loss_sum(self, tokens: torch.Tensor | None, batch: TokenBatch) -> torch.Tensor:
        """Returns the cross-entropy of the answers, summed over the tokens that are learnt.

        Args:
            tokens: The tower's tokens of each conversation's picture [B, P, W], or None for text alone.
            batch: The conversations, padded on the right.
        """
        # Padding is on the right, where causal attention does not see it: no mask.
        hidden = self.model.model(inputs_embeds=self._embed(tokens, batch.ids)).last_hidden_state[:, :-1]
        targets = batch.labels[:, 1:]
        learnt = targets != IGNORED
        return F.cross_entropy(self.model.lm_head(hidden[learnt]).float(), targets[learnt], reduction="sum")

    @torch.no_grad()
    def write(self, tokens: torch.Tensor | None, prompts: Sequence[str], *, max_tokens: int) -> list[str]:
        """Answers prompts greedily.

        Args:
            tokens: The tower's tokens of each prompt's picture [B, P, W], or None for prompts without one.
            prompts: B of them.
            max_tokens: Most tokens of an answer.
        """
        asked = [self.chat.encode_prompt(prompt, with_image=tokens is not None) for prompt in prompts]
        batch = self.batch([Conversation(tuple(ids), (IGNORED,) * len(ids)) for ids in asked], side="left")
        written = self.model.generate(
            inputs_embeds=self._embed(tokens, batch.ids),
            attention_mask=batch.mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.chat.end_tokens,
            pad_token_id=self.chat.end,
        )
        return self.chat.decode(written)

    def _embed(self, tokens: torch.Tensor | None, ids: torch.Tensor) -> torch.Tensor:
        """Returns what the language model reads, [B, T, W]: words, and projected patches where pictures stand."""
        is_patch = ids == self.image_token
        words = self.model.get_input_embeddings()(ids.masked_fill(is_patch, self.chat.end))
        if tokens is None:
            return words
        weight = next(self.projector.parameters())
        patches = self.projector(tokens.to(weight.device, weight.dtype))
        if int(is_patch.sum()) != patches.shape[0] * patches.shape[1]:
            raise ValueError(
                f"The conversations have room for {int(is_patch.sum())} patches, but the pictures have "
                f"{patches.shape[0]} times {patches.shape[1]}. Is there exactly one picture in each conversation?"
            )
        return words.masked_scatter(is_patch[..., None], patches.to(words.dtype))
