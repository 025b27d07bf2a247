"""How generated sets are made, and how they are paired with photographs."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class GenerationParams(Parameters):
    """How the generated set is made.

    Attributes:
        generator: Name of the image generator.
        generator_path: Local folder of its weights, or null for the packaged or published weights.
        image_count: Largest number of training photographs to generate for, or null for all.
        captions_per_image: How many of a photograph's captions are used, in file order.
        samples_per_caption: Pictures generated for each caption.
        dedupe_prompts: Whether equal captions of different photographs share their pictures.
        seed: Base seed; each picture's own seed is a hash of it, the caption id and the sample index.
        steps: Denoising steps.
        guidance: Guidance scale: classifier-free, or the one a guidance-distilled generator is told.
        scheduler: Name of a diffusers scheduler, or null for the shipped one.
        resolution: Height and width, in pixels.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``, for text encoders and denoising.
        negative_prompt: What classifier-free guidance leads away from; empty for the unconditional prompt.
        prompt_template: Text with one ``{}`` for the caption.
        max_prompt_tokens: Length of FLUX's T5 prompt, in tokens, or null for the generator's own.
        variant: ``none``, or a declared cache or distilled sampler, which makes another set.
        batch_size: Pictures denoised at once.
        shard_size: Pictures in one tar shard.
        jpeg_quality: 1 to 95; real COCO photographs are JPEG too.
    """

    generator: str
    generator_path: str | None
    image_count: int | None
    captions_per_image: int
    samples_per_caption: int
    dedupe_prompts: bool
    seed: int
    steps: int
    guidance: float
    scheduler: str | None
    resolution: int
    precision: str
    negative_prompt: str
    prompt_template: str
    max_prompt_tokens: int | None
    variant: str
    batch_size: int
    shard_size: int
    jpeg_quality: int

    GROUP: ClassVar[str] = "generation"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="image_count captions_per_image samples_per_caption steps resolution batch_size shard_size "
        "max_prompt_tokens",
        jpeg_quality="jpeg_quality",
        not_negative="seed guidance",
        not_empty="generator scheduler",
    ) | {
        "precision": ("auto", "float32", "bfloat16", "float16"),
        "variant": ("none", "deepcache", "lcm", "turbo", "attention_broadcast", "taylorseer"),
    }

    def __post_init__(self) -> None:
        """Refuses a value of the wrong type or against its rule, and a template without exactly one place.

        Raises:
            ParameterError: At the first such value.
        """
        super().__post_init__()
        self.refuse_unless(self.prompt_template.count("{}") == 1, "prompt_template", "a text with exactly one {}")


@dataclass(frozen=True)
class PairingParams(Parameters):
    """How pairs are split.

    Attributes:
        val_fraction: Share of the photographs whose pairs are held out for validation.
        seed: Seeds the split.
    """

    val_fraction: float
    seed: int

    GROUP: ClassVar[str] = "pairing"
    RULES: ClassVar[dict[str, Any]] = rules(not_negative="seed", fraction="val_fraction")
