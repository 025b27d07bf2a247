"""Stable Diffusion and FLUX through diffusers, so that an image depends on its own row alone.

diffusers draws noise and embeds prompts for a whole batch. Here each image's noise comes from a CPU source of its own
seed, and the autoencoder runs apart from the denoiser, so that a caller can decode one batch while the next is
denoised. What the two families differ in:

- prompt: CLIP's states [B, T, W] in Stable Diffusion; T5's states [B, T, W] and CLIP's summary [B, D] in FLUX;
- denoiser: a U-Net on latents [B, C, h, w]; a transformer on packed latents [B, h/2 * w/2, 4C];
- guidance: two passes, with the prompt and without; one pass that is told the scale.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch

from gmail_kedro.interfaces import Decoded
from gmail_kedro.models.generators.sampling import Sampling

EMBEDDED_BATCHES = 8  # text embeddings kept, for batches that follow with the same prompts and other seeds


class DiffusersGenerator(ABC):
    """A diffusers pipeline behind the project's ``ImageGenerator`` protocol.

    An image is decided by its prompt, its seed, the settings and the weights. The same batch gives the same bits on
    the same machine at any time of any run; in a batch of another size or order the matrix kernels may round last bits
    differently (at most one level of 255 on the mini models, float32).

    Args:
        name: Name of the model.
        pipeline: The loaded diffusers pipeline, with its scheduler and variant.
        sampling: The settings.
        revision: Hash of the files.
        longest_prompt: Longest prompt that the denoiser reads, in tokens; 0 where the tokenizer alone says it.
    """

    TOKENIZER: ClassVar[str]  # the part of the pipeline that decides what of a prompt is cut
    DENOISER: ClassVar[str]  # the part that makes latents out of noise

    def __init__(self, name: str, pipeline: Any, sampling: Sampling, *, revision: str, longest_prompt: int) -> None:
        self.name, self.revision = name, revision
        self._pipeline, self._sampling = pipeline, sampling
        self._tokenizer, self._denoiser = getattr(pipeline, self.TOKENIZER), getattr(pipeline, self.DENOISER)
        length = int(self._tokenizer.model_max_length)
        self.prompt_tokens = sampling.max_prompt_tokens or min(longest_prompt or length, length)
        # The distinct prompts of a batch are embedded together, whatever was asked before: kernels round a text
        # differently in a batch of another size, and the same batch must give the same bits in a resumed run.
        self._embed = lru_cache(maxsize=EMBEDDED_BATCHES)(self._embed_together)

    def count_truncated(self, prompts: Sequence[str]) -> int:
        """Counts the prompts that, inside the template, need more than ``prompt_tokens`` tokens."""
        texts = [self._sampling.fill_template(prompt) for prompt in prompts]
        encoded = self._tokenizer(texts, truncation=False, verbose=False).input_ids
        return sum(len(ids) > self.prompt_tokens for ids in encoded)

    @torch.no_grad()
    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Returns the pipeline's latents, float [B, ...], from one prompt and one seed an image.

        The seed is that of the starting noise, and of the noise that some schedulers add in every step.
        """
        # On the CPU whatever the device: CUDA's generators give other numbers on other cards.
        sources = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]
        texts = [self._sampling.fill_template(prompt) for prompt in prompts]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        rows = [places[text] for text in texts]
        conditions = self._conditions([embedded[rows] for embedded in self._embed(tuple(places))])
        return self._pipeline(
            **conditions,
            latents=self._draw_noise(sources).to(self._denoiser.dtype),
            generator=sources,
            num_inference_steps=self._sampling.steps,
            guidance_scale=self._sampling.guidance,
            height=self._sampling.resolution,
            width=self._sampling.resolution,
            output_type="latent",
        ).images

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        """Returns RGB images, or the fault of each.

        It runs the autoencoder and the safety checker, which ``denoise`` does not touch, and changes nothing in the
        process, so the two may run in two threads.
        """
        pixels = self._to_pixels(latents.to(torch.float32))  # [B, 3, H, W]
        finite = (latents.isfinite().flatten(1).all(1) & pixels.isfinite().flatten(1).all(1)).tolist()
        pixels = pixels.nan_to_num()
        # A copy: the safety checker blackens what it flags in place.
        unsafe = self._flag_unsafe(pixels.clone()) or [False] * len(pixels)
        images = self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        faults = [
            "not_finite" if not is_finite else "safety" if is_unsafe else ""
            for is_finite, is_unsafe in zip(finite, unsafe, strict=True)
        ]
        return [Decoded(None if fault else image, fault) for image, fault in zip(images, faults, strict=True)]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Decoded]:
        """Makes one image for each prompt and seed."""
        return self.decode(self.denoise(prompts, seeds))

    @abstractmethod
    def _embed_together(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        """Returns the text encoders' outputs, one row a text."""

    @abstractmethod
    def _conditions(self, embedded: list[torch.Tensor]) -> dict[str, Any]:
        """Returns the pipeline's arguments that stand for the embedded prompts of a batch."""

    @abstractmethod
    def _draw_noise(self, sources: list[torch.Generator]) -> torch.Tensor:
        """Returns starting noise in float32, each row from its own source, whatever the precision."""

    @abstractmethod
    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Returns images [B, 3, H, W] with values around [-1, 1]."""

    def _flag_unsafe(self, pixels: torch.Tensor) -> list[bool] | None:
        """Returns what the pipeline's safety checker says of each image; None without one."""
        return None


class StableDiffusionGenerator(DiffusersGenerator):
    """A ``StableDiffusionPipeline``: one CLIP text encoder, a U-Net, classifier-free guidance."""

    TOKENIZER, DENOISER = "tokenizer", "unet"

    def _embed_together(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        embedded, _ = self._pipeline.encode_prompt(list(texts), self._pipeline.device, 1, False)  # [N, T, W]
        return (embedded,)

    @cached_property
    def _unconditional(self) -> torch.Tensor:
        return self._embed_together((self._sampling.negative_prompt,))[0]  # [1, T, W]

    def _conditions(self, embedded: list[torch.Tensor]) -> dict[str, Any]:
        (prompts,) = embedded
        if self._sampling.guidance <= 1:  # the pipeline makes no unconditional pass then
            return {"prompt_embeds": prompts}
        return {"prompt_embeds": prompts, "negative_prompt_embeds": self._unconditional.expand_as(prompts)}

    def _draw_noise(self, sources: list[torch.Generator]) -> torch.Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        side = self._sampling.resolution // self._pipeline.vae_scale_factor
        shape = (len(sources), self._denoiser.config.in_channels, side, side)  # [B, C, h, w]
        return randn_tensor(shape, generator=sources, device=self._pipeline.device, dtype=torch.float32)

    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.decode(latents / vae.config.scaling_factor).sample

    def _flag_unsafe(self, pixels: torch.Tensor) -> list[bool] | None:
        if self._pipeline.safety_checker is None:
            return None
        checker_dtype = self._pipeline.safety_checker.dtype
        _, flags = self._pipeline.run_safety_checker(pixels, self._pipeline.device, checker_dtype)
        return flags


class FluxGenerator(DiffusersGenerator):
    """A ``FluxPipeline``: T5 and CLIP text encoders, a flow-matching transformer, guidance in one pass.

    T5's padding is attended to, so the prompt's length in tokens changes images and belongs to the settings. A prompt
    counts as cut when T5 cuts it; CLIP, of which FLUX reads one summary vector, cuts at its own shorter length.
    """

    TOKENIZER, DENOISER = "tokenizer_2", "transformer"

    def _embed_together(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        states, summary, _ = self._pipeline.encode_prompt(  # [N, T, W], [N, D]
            list(texts), device=self._pipeline.device, max_sequence_length=self.prompt_tokens
        )
        return states, summary

    def _conditions(self, embedded: list[torch.Tensor]) -> dict[str, Any]:
        states, summary = embedded
        return {"prompt_embeds": states, "pooled_prompt_embeds": summary}

    def _draw_noise(self, sources: list[torch.Generator]) -> torch.Tensor:
        pipeline, side = self._pipeline, self._sampling.resolution
        channels = self._denoiser.config.in_channels // 4  # each token packs two by two latents
        packed, _ = pipeline.prepare_latents(  # [B, h/2 * w/2, 4C]
            len(sources), channels, side, side, torch.float32, pipeline.device, sources
        )
        return packed

    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        pipeline, side = self._pipeline, self._sampling.resolution
        unpacked = pipeline._unpack_latents(latents, side, side, pipeline.vae_scale_factor)  # [B, C, h, w]
        config = pipeline.vae.config
        return pipeline.vae.decode(unpacked / config.scaling_factor + config.shift_factor).sample
