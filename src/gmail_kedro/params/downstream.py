"""How the consumers of the aligned features are trained: the captioner, and the text tower for retrieval."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.alignment import TRAINING_FREE
from gmail_kedro.params.base import Parameters, rules

TRAINING_SOURCES = ("generated", "real", "mixed", "text")


@dataclass(frozen=True)
class DownstreamParams(Parameters):
    """What the consumers train on, and how the captioner is trained (ClipCap: prefix mapper and language model).

    Attributes:
        language_model: Name of the language model in the zoo.
        language_model_path: Local folder of its weights, or null for the zoo's own source.
        train_on: ``generated`` (through the student), ``real`` (through the real route), ``mixed`` (both, as the
            Task2Sim row of the paper) or ``text`` (captions in place of pictures, ReVision's first stage).
        real_fraction: Share of real rows in ``mixed``.
        text_map: Training-free map from text to image features, for ``text``.
        prefix_length: Soft tokens made from one embedding.
        tune_language_model: Whether the language model learns too, or the prefix mapper alone.
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
    real_fraction: float
    text_map: str
    prefix_length: int
    tune_language_model: bool
    max_tokens: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    steps: int
    batch_size: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "downstream"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="prefix_length max_tokens learning_rate steps batch_size clip_norm checkpoint_every",
        not_negative="weight_decay warmup_steps",
        fraction="real_fraction",
        not_empty="language_model",
    ) | {"train_on": TRAINING_SOURCES, "text_map": TRAINING_FREE}


@dataclass(frozen=True)
class RetrieverParams(Parameters):
    """How the text tower is tuned on the same features, for retrieval of real images.

    Attributes:
        steps: Optimizer steps; 0 leaves the text tower as it is.
        batch_size: Captions a step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_steps: Linear warm-up, then cosine decay to zero.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "retriever"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="batch_size learning_rate clip_norm checkpoint_every", not_negative="steps weight_decay warmup_steps"
    )
