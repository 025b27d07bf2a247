"""What the diffusers generators share: noise by row, text embeddings computed once, and decoding."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.interfaces import Decoded
from gmail_kedro.models.generators.sampling import Sampling

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

BATCHES_KEPT = 8


class DiffusersGenerator(ABC):
    """A diffusers pipeline behind the house's ``ImageGenerator`` protocol.

    A picture is decided by its prompt, its seed, the settings and the weights; its noise comes from a CPU source of
    its own. The distinct prompts of a batch are embedded once and together, whatever was asked before, and kept for
    the batches that follow with the same ones. So the same batch gives the same bits on the same machine, at any time
    of any run; in a batch of another size or order the matrix kernels may round last bits differently (at most one
    level of 255 on the mini models, float32).

    Args:
        name: Name of the model.
        pipeline: The loaded pipeline, with its scheduler and variant.
        sampling: The settings.
        revision: Hash of the files.
        prompt_tokens: Longest prompt, in tokens.
    """

    def __init__(
        self, name: str, pipeline: "DiffusionPipeline", sampling: Sampling, *, revision: str, prompt_tokens: int
    ) -> None:
        self.name, self.revision, self.prompt_tokens = name, revision, prompt_tokens
        self._pipeline, self._sampling = pipeline, sampling
        self._embed = lru_cache(maxsize=BATCHES_KEPT)(self._embed_together)

    def count_truncated(self, prompts: Sequence[str]) -> int:
        """Counts the prompts that, inside the template, need more than ``prompt_tokens`` tokens."""
        texts = [self._sampling.fill_template(prompt) for prompt in prompts]
        encoded = self._tokenizer(texts, truncation=False, verbose=False).input_ids
        return sum(len(ids) > self.prompt_tokens for ids in encoded)

    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Returns the pipeline's latents, float of shape [B, ...].

        Args:
            prompts: One text a picture.
            seeds: One seed a picture, of its starting noise and of a scheduler's own noise.
        """
        sources = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]
        with torch.no_grad():
            texts = [self._sampling.fill_template(prompt) for prompt in prompts]
            places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            rows = [places[text] for text in texts]
            conditions = self._conditions([embedded[rows] for embedded in self._embed(tuple(places))])
            return self._pipeline(
                **conditions,
                latents=self._draw_noise(sources).to(self._dtype),
                generator=sources,
                num_inference_steps=self._sampling.steps,
                guidance_scale=self._sampling.guidance,
                height=self._sampling.resolution,
                width=self._sampling.resolution,
                output_type="latent",
            ).images

    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        """Returns RGB pictures, or the fault of each.

        It runs the autoencoder and the safety checker, which ``denoise`` does not touch, and changes nothing in the
        process, so the two may run in two threads.

        Args:
            latents: What ``denoise`` returned.
        """
        with torch.no_grad():
            pixels = self._to_pixels(latents.to(torch.float32))
            finite = (latents.isfinite().flatten(1).all(1) & pixels.isfinite().flatten(1).all(1)).tolist()
            pixels = pixels.nan_to_num()
            unsafe = self._flag_unsafe(pixels.clone()) or [False] * len(pixels)
            images = self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        faults = [
            "not_finite" if not is_finite else "safety" if is_unsafe else ""
            for is_finite, is_unsafe in zip(finite, unsafe, strict=True)
        ]
        return [Decoded(None if fault else image, fault) for image, fault in zip(images, faults, strict=True)]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Decoded]:
        """Makes one picture for each prompt.

        Args:
            prompts: One text a picture.
            seeds: One seed a picture.
        """
        return self.decode(self.denoise(prompts, seeds))

    @property
    @abstractmethod
    def _tokenizer(self) -> Any:
        """The tokenizer that decides what is cut."""

    @property
    @abstractmethod
    def _dtype(self) -> torch.dtype:
        """The type the denoising network computes in."""

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
        """Returns pictures [B, 3, H, W] with values around [-1, 1]."""

    def _flag_unsafe(self, pixels: torch.Tensor) -> list[bool] | None:
        """Returns what the pipeline's safety checker says of each picture; None without one."""
        return None
