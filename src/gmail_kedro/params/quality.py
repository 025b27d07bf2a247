"""What makes a picture unfit for training, and how many such pictures a run may meet."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class QualityParams(Parameters):
    """What makes a picture unfit for training, and how many such pictures a run may meet.

    Attributes:
        black_level: A picture without a brighter pixel (0 to 255, any channel) is black.
        min_deviation: Least standard deviation of a channel's pixels (0 to 255); below it a picture is near-constant.
        duplicate_distance: Largest distance, of 192 bits, of the colour hashes of two pictures of one shard of which
            the later is a near-duplicate; null: not checked.
        min_caption_score: Least cosine of a picture and its caption by the run's encoder; null: not checked.
        retries: How many other seeds a refused picture is made anew with before it is quarantined.
        max_quarantined: Largest share of the generated pictures that may be quarantined; above it the run fails.
        limit_after: Pictures that are judged before that share is watched while the run goes on.
        max_unreadable: Largest share of the training photographs that may be unreadable; above it the run fails.
    """

    black_level: int
    min_deviation: float
    duplicate_distance: int | None
    min_caption_score: float | None
    retries: int
    max_quarantined: float
    limit_after: int
    max_unreadable: float

    GROUP: ClassVar[str] = "quality"
    RULES: ClassVar[dict[str, Any]] = rules(
        not_negative="black_level min_deviation duplicate_distance retries",
        fraction="max_quarantined max_unreadable",
        positive="limit_after",
    )
