"""What makes a generated image unfit for training, and how many such images a run may meet."""

from typing import ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from gmail_kedro.params.base import Fraction, Parameters


class QualityParams(Parameters):
    """What makes a generated image unfit for training, and how many such images a run may meet."""

    GROUP: ClassVar[str] = "quality"

    black_level: NonNegativeInt  # an image without a brighter pixel (0 to 255, any channel) is black
    min_deviation: NonNegativeFloat  # of a channel's pixels (0 to 255); below it an image is near-constant
    # Largest distance, of 192 bits, of the colour hashes of two images of one shard of which the later is a
    # near-duplicate; null: not checked.
    duplicate_distance: NonNegativeInt | None
    min_caption_score: float | None  # cosine of an image and its caption by the run's encoder; null: not checked
    retries: NonNegativeInt  # other seeds that a refused image is made anew with before it is quarantined
    max_quarantined: Fraction  # share of the generated images; above it the run fails
    limit_after: PositiveInt  # images that are judged before that share is watched while the run goes on
    max_unreadable: Fraction  # of the real training images, copies of measured ones among them
