"""Generators in Stable Diffusion's layout: one CLIP text encoder, a U-Net, classifier-free guidance."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.generators.diffusers_generator import DiffusersGenerator
from gmail_kedro.models.generators.sampling import Sampling

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


class StableDiffusionGenerator(DiffusersGenerator):
    """A ``StableDiffusionPipeline``; its latents are [B, C, h, w].

    Args:
        name: Name of the model.
        pipeline: The loaded pipeline.
        sampling: The settings.
        revision: Hash of the files.
    """

    def __init__(self, name: str, pipeline: "StableDiffusionPipeline", sampling: Sampling, *, revision: str) -> None:
        length = int(pipeline.tokenizer.model_max_length)
        super().__init__(name, pipeline, sampling, revision=revision, prompt_tokens=length)

    @property
    def _tokenizer(self) -> Any:
        return self._pipeline.tokenizer

    @property
    def _dtype(self) -> torch.dtype:
        return self._pipeline.unet.dtype

    def _embed_together(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        embedded, _ = self._pipeline.encode_prompt(list(texts), self._pipeline.device, 1, False)
        return (embedded,)

    @cached_property
    def _unconditional(self) -> torch.Tensor:
        return self._embed_together((self._sampling.negative_prompt,))[0]

    def _conditions(self, embedded: list[torch.Tensor]) -> dict[str, Any]:
        (prompts,) = embedded
        if self._sampling.guidance <= 1:  # the pipeline makes no unconditional pass then
            return {"prompt_embeds": prompts}
        return {"prompt_embeds": prompts, "negative_prompt_embeds": self._unconditional.expand_as(prompts)}

    def _draw_noise(self, sources: list[torch.Generator]) -> torch.Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        pipeline = self._pipeline
        side = self._sampling.resolution // pipeline.vae_scale_factor
        shape = (len(sources), pipeline.unet.config.in_channels, side, side)
        return randn_tensor(shape, generator=sources, device=pipeline.device, dtype=torch.float32)

    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.decode(latents / vae.config.scaling_factor).sample

    def _flag_unsafe(self, pixels: torch.Tensor) -> list[bool] | None:
        if self._pipeline.safety_checker is None:
            return None
        checker_dtype = self._pipeline.safety_checker.dtype
        _, flags = self._pipeline.run_safety_checker(pixels, self._pipeline.device, checker_dtype)
        return flags
