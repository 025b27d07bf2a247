"""Generators in FLUX.1's layout: CLIP and T5 text encoders, a flow-matching transformer, guidance in one pass."""

from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.generators.diffusers_generator import DiffusersGenerator
from gmail_kedro.models.generators.sampling import Sampling

if TYPE_CHECKING:
    from diffusers import FluxPipeline


class FluxGenerator(DiffusersGenerator):
    """A ``FluxPipeline``; its latents are packed tokens [B, N, C].

    T5's padding is attended to, so the prompt's length in tokens changes pictures and belongs to the settings. A
    prompt counts as cut when T5 cuts it; CLIP, of which FLUX reads one summary vector, cuts at its own shorter length.

    Args:
        name: Name of the model.
        pipeline: The loaded pipeline.
        sampling: The settings.
        revision: Hash of the files.
        prompt_tokens: T5's prompt length where the settings do not give one, in tokens.
    """

    def __init__(
        self, name: str, pipeline: "FluxPipeline", sampling: Sampling, *, revision: str, prompt_tokens: int
    ) -> None:
        length = sampling.max_prompt_tokens or min(prompt_tokens, int(pipeline.tokenizer_2.model_max_length))
        super().__init__(name, pipeline, sampling, revision=revision, prompt_tokens=length)

    @property
    def _tokenizer(self) -> Any:
        return self._pipeline.tokenizer_2

    @property
    def _dtype(self) -> torch.dtype:
        return self._pipeline.transformer.dtype

    def _embed_together(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        embedded, summary, _ = self._pipeline.encode_prompt(
            list(texts), device=self._pipeline.device, max_sequence_length=self.prompt_tokens
        )
        return embedded, summary

    def _conditions(self, embedded: list[torch.Tensor]) -> dict[str, Any]:
        states, summary = embedded
        return {"prompt_embeds": states, "pooled_prompt_embeds": summary}

    def _draw_noise(self, sources: list[torch.Generator]) -> torch.Tensor:
        pipeline, side = self._pipeline, self._sampling.resolution
        channels = pipeline.transformer.config.in_channels // 4
        packed, _ = pipeline.prepare_latents(
            len(sources), channels, side, side, torch.float32, pipeline.device, sources
        )
        return packed

    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        pipeline, side = self._pipeline, self._sampling.resolution
        unpacked = pipeline._unpack_latents(latents, side, side, pipeline.vae_scale_factor)
        config = pipeline.vae.config
        return pipeline.vae.decode(unpacked / config.scaling_factor + config.shift_factor).sample
