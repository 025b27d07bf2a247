"""How the consumers of the aligned features are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


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
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="prefix_length max_tokens learning_rate steps batch_size clip_norm checkpoint_every",
        not_negative="weight_decay warmup_steps",
        not_empty="language_model",
    ) | {"train_on": TRAINING_SOURCES}
