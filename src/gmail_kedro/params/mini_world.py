"""The size of the embedded corpora."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


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
    RULES: ClassVar[dict[str, Any]] = rules(positive="train_count val_count test_count", not_negative="seed")


@dataclass(frozen=True)
class MiniBenchmarksParams(Parameters):
    """Size of the embedded corpora that are only measured on: other scenes, in test handwriting.

    Attributes:
        flickr_count: Scenes of the corpus in Flickr30k's place, five captions each.
        long_caption_count: Scenes of the corpus in ShareGPT4V's place, one long caption each.
        seed: Seeds the scenes, their captions and their noise.
    """

    flickr_count: int
    long_caption_count: int
    seed: int

    GROUP: ClassVar[str] = "mini_benchmarks"
    RULES: ClassVar[dict[str, Any]] = rules(positive="flickr_count long_caption_count", not_negative="seed")
