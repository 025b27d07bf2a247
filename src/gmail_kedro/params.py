"""Every parameter group, typed and validated: a wrong value is refused before the first node runs.

One flat frozen dataclass for each ``params:`` group of ``conf/``; Kedro builds them from the YAML.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

OBJECTIVES = ("none", "eq1", "eq1_moments")
TRAINING_SOURCES = ("generated", "real")


class ParameterError(ValueError):
    """A parameter that cannot be used; the message names it, what was expected, what came and the file."""


@dataclass(frozen=True)
class Parameters:
    """Checks shared by all groups: field types, and the rules each group lists in ``RULES``.

    Attributes:
        GROUP: The key of the group in ``conf/``.
        RULES: For each field, a rule by name (see ``_RULES``) or the tuple of allowed values.
    """

    GROUP: ClassVar[str] = ""
    RULES: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        """Refuses a value of the wrong type or against its rule.

        Raises:
            ParameterError: At the first such value.
        """
        annotations = get_type_hints(type(self))
        for field in fields(self):
            where, value = f"{self.GROUP}.{field.name}", getattr(self, field.name)
            _check_type(where, value, annotations[field.name])
            if field.name in self.RULES and value is not None:
                _check_rule(where, value, self.RULES[field.name])


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "positive": (lambda value: value > 0, "greater than 0"),
    "not_negative": (lambda value: value >= 0, "0 or greater"),
    "fraction": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "not_empty": (lambda value: len(value) > 0, "not empty"),
    "jpeg_quality": (lambda value: 1 <= value <= 95, "between 1 and 95"),
}


def _rules(**names: str) -> dict[str, Any]:
    """Returns rules by field from the field names of each rule: ``_rules(positive="steps batch_size")``."""
    return {name: rule for rule, words in names.items() for name in words.split()}


_KINDS = {float: "a number", int: "an integer", str: "a string", bool: "true or false", list: "a list"}


def _check_type(where: str, value: Any, annotation: Any) -> None:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if value is None and NoneType in kinds:
        return
    kind = get_origin(kinds[0]) or kinds[0]
    if not _is_a(value, kind):
        raise ParameterError(_sentence(where, _KINDS[kind], value))
    if kind is float and not math.isfinite(value):
        raise ParameterError(_sentence(where, "a finite number", value))
    for item in value if kind is list else ():
        _check_type(where, item, get_args(kinds[0])[0])


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:  # Python counts True as the integer 1; a configuration must not
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (float, int) if kind is float else kind)


def _check_rule(where: str, value: Any, rule: str | tuple[Any, ...]) -> None:
    if isinstance(rule, tuple):
        holds, words = value in rule, f"one of {list(rule)}"
    else:
        holds, words = _RULES[rule][0](value), _RULES[rule][1]
    if not holds:
        raise ParameterError(_sentence(where, words, value))


def _sentence(where: str, expected: str, value: Any) -> str:
    return (
        f"The parameter {where} must be {expected}. Got {value!r} instead. "
        f"Set it in conf/*/parameters*.yml or with --params={where}=…"
    )


@dataclass(frozen=True)
class RunParams(Parameters):
    """What all pipelines of one run share.

    Attributes:
        seed: Seeds every random choice of the run.
        device: ``auto``, ``cpu`` or a CUDA device.
        precision: ``auto``, ``float32`` or ``bfloat16``, for training and encoding.
        encoder: Name of the image-text encoder in the zoo.
        encoder_path: Local folder of its weights, or null for the zoo's own source.
        image_batch_size: Pictures encoded at once.
    """

    seed: int
    device: str
    precision: str
    encoder: str
    encoder_path: str | None
    image_batch_size: int

    GROUP: ClassVar[str] = "run"
    RULES: ClassVar[dict[str, Any]] = _rules(positive="image_batch_size", not_negative="seed", not_empty="encoder") | {
        "precision": ("auto", "float32", "bfloat16")
    }


@dataclass(frozen=True)
class MiniWorldParams(Parameters):
    """Size of the embedded corpus.

    Attributes:
        train_count: Training scenes (train handwriting).
        val_count: Validation scenes (validation handwriting).
        test_count: Test scenes (test handwriting).
        seed: Seeds the scenes, their captions and their noise.
    """

    train_count: int
    val_count: int
    test_count: int
    seed: int

    GROUP: ClassVar[str] = "mini_world"
    RULES: ClassVar[dict[str, Any]] = _rules(positive="train_count val_count test_count", not_negative="seed")


@dataclass(frozen=True)
class GenerationParams(Parameters):
    """How the generated set is made.

    Attributes:
        generator: Name of the image generator in the zoo.
        generator_path: Local folder of its weights, or null for the zoo's own source.
        image_count: Largest number of training photographs to generate for, or null for all.
        captions_per_image: How many of a photograph's captions are used, in file order.
        samples_per_caption: Pictures generated for each caption.
        seed: Base seed; each picture's own seed is a hash of it, the caption id and the sample index.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        resolution: Height and width, in pixels.
        batch_size: Pictures denoised at once.
        shard_size: Pictures in one tar shard.
        jpeg_quality: 1 to 95; real COCO photographs are JPEG too.
    """

    generator: str
    generator_path: str | None
    image_count: int | None
    captions_per_image: int
    samples_per_caption: int
    seed: int
    steps: int
    guidance: float
    resolution: int
    batch_size: int
    shard_size: int
    jpeg_quality: int

    GROUP: ClassVar[str] = "generation"
    RULES: ClassVar[dict[str, Any]] = _rules(
        positive="image_count captions_per_image samples_per_caption steps resolution batch_size shard_size "
        "jpeg_quality",
        not_negative="seed guidance",
        not_empty="generator",
    )


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
    RULES: ClassVar[dict[str, Any]] = _rules(not_negative="seed", fraction="val_fraction")


@dataclass(frozen=True)
class AlignmentParams(Parameters):
    """How the student is tuned towards the teacher (Section 3.2 of the paper).

    Attributes:
        objective: ``eq1`` (the paper), ``eq1_moments`` (Eq. 1 plus moment matching) or ``none``.
        temperature: The paper's tau, 0.07.
        moment_weight: Weight of the moment-matching term; unused by the other objectives.
        mask_same_image: Leave out negatives that show the same photograph as the positive.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale numerator of the adapter.
        lora_dropout: Dropout before the adapter.
        lora_targets: Modules of the image tower that get an adapter, as PEFT names them.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        schedule: ``constant``, ``linear`` or ``cosine``.
        warmup_steps: Linear warm-up, in steps.
        restarts: Equally long cosine cycles (warm restarts).
        steps: Optimizer steps.
        batch_size: Pairs a step.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
    """

    objective: str
    temperature: float
    moment_weight: float
    mask_same_image: bool
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: list[str]
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup_steps: int
    restarts: int
    steps: int
    batch_size: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "alignment"
    RULES: ClassVar[dict[str, Any]] = _rules(
        positive="temperature lora_rank lora_alpha learning_rate restarts steps batch_size clip_norm checkpoint_every",
        not_negative="moment_weight weight_decay warmup_steps",
        fraction="lora_dropout",
        not_empty="lora_targets",
    ) | {"objective": OBJECTIVES, "schedule": ("constant", "linear", "cosine")}


@dataclass(frozen=True)
class DownstreamParams(Parameters):
    """How the captioner is trained (ClipCap: prefix mapper and language model).

    Attributes:
        language_model: Name of the language model in the zoo.
        language_model_path: Local folder of its weights, or null for the zoo's own source.
        train_on: ``generated`` (through the student) or ``real`` (through the teacher).
        prefix_length: Soft tokens made from one embedding.
        max_tokens: Longest caption, in tokens.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_steps: Linear warm-up, then linear decay to zero.
        steps: Optimizer steps.
        batch_size: Captions a step.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
    """

    language_model: str
    language_model_path: str | None
    train_on: str
    prefix_length: int
    max_tokens: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    steps: int
    batch_size: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "downstream"
    RULES: ClassVar[dict[str, Any]] = _rules(
        positive="prefix_length max_tokens learning_rate steps batch_size clip_norm checkpoint_every",
        not_negative="weight_decay warmup_steps",
        not_empty="language_model",
    ) | {"train_on": TRAINING_SOURCES}


@dataclass(frozen=True)
class EvaluationParams(Parameters):
    """What is measured on real test images.

    Attributes:
        split: ``val`` while tuning, ``test`` once at the end.
        image_count: Largest number of test photographs, or null for all.
        beam_size: Beams of the captioner's search.
        caption_tokenizer: ``simple`` (no Java) or ``ptb`` (Java).
        bootstrap_count: Resamples behind each interval.
        seed: Seeds the resampling.
    """

    split: str
    image_count: int | None
    beam_size: int
    caption_tokenizer: str
    bootstrap_count: int
    seed: int

    GROUP: ClassVar[str] = "evaluation"
    RULES: ClassVar[dict[str, Any]] = _rules(positive="image_count beam_size bootstrap_count", not_negative="seed") | {
        "split": ("val", "test"),
        "caption_tokenizer": ("simple", "ptb"),
    }


@dataclass(frozen=True)
class PretrainingParams(Parameters):
    """How the mini models are made (`make weights`).

    Attributes:
        seed: Seeds everything.
        scene_count: Training scenes drawn for each model.
        clip_steps: Length of the mini CLIP's learning-rate schedule, in steps.
        clip_stop_after: Steps that are taken; chosen on validation so that retrieval leaves room to gain.
        clip_batch_size: Pairs a step.
        vae_steps: Steps of the generator's autoencoder.
        unet_steps: Steps of its U-Net and text encoder.
        generator_batch_size: Scenes a step.
        gpt2_steps: Steps of the mini GPT-2.
        gpt2_batch_size: Texts a step.
        reader_steps: Steps of the digit reader.
        reader_batch_size: Scenes a step.
        sampling_steps: Denoising steps used to measure the generator.
        sampling_guidance: Guidance scale used to measure the generator.
    """

    seed: int
    scene_count: int
    clip_steps: int
    clip_stop_after: int
    clip_batch_size: int
    vae_steps: int
    unet_steps: int
    generator_batch_size: int
    gpt2_steps: int
    gpt2_batch_size: int
    reader_steps: int
    reader_batch_size: int
    sampling_steps: int
    sampling_guidance: float

    GROUP: ClassVar[str] = "pretraining"
    RULES: ClassVar[dict[str, Any]] = _rules(
        positive="scene_count clip_steps clip_stop_after clip_batch_size vae_steps unet_steps generator_batch_size "
        "gpt2_steps gpt2_batch_size reader_steps reader_batch_size sampling_steps",
        not_negative="seed sampling_guidance",
    )


@dataclass(frozen=True)
class DiagnosticsParams(Parameters):
    """How the gap between generated and real embeddings is measured on held-out pairs.

    Attributes:
        pair_count: Largest number of held-out photographs, or null for all.
        neighbour_count: Neighbours of the mixing rate and of the preserved neighbourhoods.
        frame_rank: Directions that the fixed frame counts as principal.
        codec_size: Shorter side of the codec-matched pictures, in pixels.
        codec_quality: JPEG quality of the codec-matched pictures, 1 to 95.
        bootstrap_count: Resamples behind each interval.
        tsne_count: Pairs in the t-SNE figure.
        seed: Seeds resampling, probes, strangers and t-SNE.
    """

    pair_count: int | None
    neighbour_count: int
    frame_rank: int
    codec_size: int
    codec_quality: int
    bootstrap_count: int
    tsne_count: int
    seed: int

    GROUP: ClassVar[str] = "diagnostics"
    RULES: ClassVar[dict[str, Any]] = _rules(
        positive="pair_count neighbour_count frame_rank codec_size bootstrap_count tsne_count",
        not_negative="seed",
        jpeg_quality="codec_quality",
    )
