"""How generated sets are made, and how they are paired with real images."""

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from gmail_kedro.params.base import Fraction, JpegQuality, Parameters, Text


class GenerationParams(Parameters):
    """How the generated set is made."""

    GROUP: ClassVar[str] = "generation"

    generator: Text
    generator_path: str | None  # local folder of its weights; null: the packaged or published ones
    image_count: PositiveInt | None  # real training images to generate for; null: all, as the paper
    captions_per_image: PositiveInt = 5  # [paper] in file order; 560,000 images on COCO
    samples_per_caption: PositiveInt
    dedupe_prompts: bool  # equal captions of different real images share their generated ones
    seed: NonNegativeInt  # each image's own seed is a hash of it, the caption id and the sample index
    steps: PositiveInt = 50  # [paper] denoising steps
    guidance: NonNegativeFloat  # classifier-free, or what a guidance-distilled generator is told
    scheduler: Text | None  # of diffusers; null: the shipped one
    resolution: PositiveInt  # height and width, in pixels
    # Of text encoders and denoising; auto is what the machine multiplies fastest.
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    negative_prompt: str  # what classifier-free guidance leads away from; empty: the unconditional prompt
    prompt_template: str  # with one {} for the caption
    max_prompt_tokens: PositiveInt | None  # FLUX: length of the T5 prompt; null: the generator's own
    # A declared cache or distilled sampler, which makes another set: of Stable Diffusion the first three, of FLUX the
    # last two.
    variant: Literal["none", "deepcache", "lcm", "turbo", "attention_broadcast", "taylorseer"]
    batch_size: PositiveInt  # images denoised at once
    shard_size: PositiveInt  # images in one tar shard, which is there whole or not at all: a kill costs one
    jpeg_quality: JpegQuality  # real COCO images are JPEG too

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        self.refuse_unless(self.prompt_template.count("{}") == 1, "prompt_template", "a text with exactly one {}")
        return self


class PairingParams(Parameters):
    """How pairs are split; all pairs of one real image share a split."""

    GROUP: ClassVar[str] = "pairing"

    val_fraction: Fraction  # of the real images
    seed: NonNegativeInt
