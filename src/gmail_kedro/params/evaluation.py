"""What is measured on real images."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class EvaluationParams(Parameters):
    """What is measured on real test images.

    Attributes:
        split: ``val`` while tuning, ``test`` once at the end.
        image_count: Largest number of test photographs, or null for all.
        beam_size: Beams of the captioner's search.
        caption_tokenizer: ``simple`` (no Java) or ``ptb`` (Java).
        meteor: Whether METEOR is measured; it starts Java and takes several seconds.
        bootstrap_count: Resamples behind each interval.
        seed: Seeds the resampling.
    """

    split: str
    image_count: int | None
    beam_size: int
    caption_tokenizer: str
    meteor: bool
    bootstrap_count: int
    seed: int

    GROUP: ClassVar[str] = "evaluation"
    RULES: ClassVar[dict[str, Any]] = rules(positive="image_count beam_size bootstrap_count", not_negative="seed") | {
        "split": ("val", "test"),
        "caption_tokenizer": ("simple", "ptb"),
    }
