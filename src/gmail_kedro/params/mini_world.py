"""The size of the embedded corpus."""

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
