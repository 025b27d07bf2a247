"""The quality gate: which generated images must not reach training, and why.

An image is judged by its JPEG, the bytes training will see, so a stored image can be judged again at any time with the
same outcome. Near-duplicates are looked for among the accepted images of earlier rows of the same shard, and among the
earlier samples of the same caption wherever they are; never among all images of a set, so that a shard can be made,
remade or moved without the others.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.fft import dctn

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.params.quality import QualityParams

if TYPE_CHECKING:
    from PIL.Image import Image

FAULTS = {
    "not_finite": "the latents or the pixels were NaN or infinite",
    "safety": "the generator's own safety checker flagged it",
    "failed": "the generator failed on this row alone",
}
HASH_SIDE, HASH_WAVES = 32, 8
LEAST_WAVE = 16.0  # of an orthonormal DCT of 32 x 32: an amplitude of about one grey value
# Maps images and their captions to cosines, one each.
Scorer = Callable[[Sequence["Image"], Sequence[str]], np.ndarray]


class QuarantineError(ValueError):
    """Too many images were refused; the message has the table of reasons."""


class Verdict(NamedTuple):
    """What the gate says of an image: nothing when it is accepted, otherwise why not, in a word and in a sentence."""

    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Looked:
    """A record, what is wrong with it by itself, and its hash for the comparison with others."""

    record: ImageRecord
    verdict: Verdict
    image_hash: np.ndarray | None


class QualityGate:
    """Judges images by themselves.

    Args:
        params: The thresholds.
        resolution: Height and width that an image must have, in pixels.
        scorer_name: Which model gives the caption scores; part of the gate's settings where there is a least score.
        build_scorer: Builds what gives them; called when the first image is scored, and only if there is a least score.

    Raises:
        ValueError: If a least caption score is asked for and nothing builds a scorer.
    """

    def __init__(
        self,
        params: QualityParams,
        *,
        resolution: int,
        scorer_name: str = "",
        build_scorer: Callable[[], Scorer] | None = None,
    ) -> None:
        if params.min_caption_score is not None and build_scorer is None:
            raise ValueError("quality.min_caption_score is set, but there is no encoder to give scores.")
        self.params, self._resolution = params, resolution
        self._scorer_name, self._build_scorer = scorer_name, build_scorer
        self._scorer: Scorer | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the verdicts; JSON values only."""
        # Not max_quarantined and limit_after: they stop a run, and change no verdict.
        names = ("black_level", "min_deviation", "duplicate_distance", "min_caption_score", "retries")
        settings = {name: getattr(self.params, name) for name in names}
        return settings | {"scorer": self._scorer_name if self.params.min_caption_score is not None else ""}

    def look(self, records: Sequence[ImageRecord]) -> list[Looked]:
        """Judges each record by itself: faults, size, emptiness, caption score."""
        images = [decode_image(record.jpeg, name=record.key) if record.jpeg else None for record in records]
        verdicts = [self._judge_pixels(record, image) for record, image in zip(records, images, strict=True)]
        verdicts = self._judge_scores(records, images, verdicts)
        compares = self.params.duplicate_distance is not None
        return [
            Looked(record, verdict, hash_image(image) if image is not None and compares else None)
            for record, image, verdict in zip(records, images, verdicts, strict=True)
        ]

    def _judge_pixels(self, record: ImageRecord, image: "Image | None") -> Verdict:
        fault = record.facts.get("fault", "")
        if fault or image is None:
            return Verdict(fault or "failed", record.facts.get("detail") or FAULTS.get(fault, fault))
        if image.size != (self._resolution, self._resolution):
            wanted = f"{self._resolution} x {self._resolution}"
            return Verdict("wrong_size", f"it is {image.width} x {image.height} pixels; expected {wanted}")
        # From the surest fault to the softest: an image gets the one reason that says most.
        pixels = np.asarray(image)  # [H, W, 3]
        if pixels.max() <= self.params.black_level:
            return Verdict(
                "black", f"its brightest pixel is {pixels.max()}; more than {self.params.black_level} expected"
            )
        if (pixels == pixels[0, 0]).all():
            return Verdict("blank", f"it is of one colour, {tuple(pixels[0, 0].tolist())}")
        # By channel, then the largest: a red page with a darker red digit is flat in two channels of three.
        deviation = float(pixels.std(axis=(0, 1)).max())
        if deviation < self.params.min_deviation:
            expected = f"at least {self.params.min_deviation:g} expected"
            return Verdict("near_constant", f"its pixels deviate by {deviation:.2f}; {expected}")
        return Verdict()

    def _judge_scores(
        self, records: Sequence[ImageRecord], images: Sequence["Image | None"], verdicts: list[Verdict]
    ) -> list[Verdict]:
        least, rows = self.params.min_caption_score, [row for row, verdict in enumerate(verdicts) if not verdict.reason]
        if least is None or not rows:
            return verdicts
        if self._scorer is None:
            assert self._build_scorer is not None  # the constructor saw to it
            self._scorer = self._build_scorer()
        # Only of sound images: an encoder's cosine of a black image is a number like any other.
        shown = [image for image in (images[row] for row in rows) if image is not None]
        scores = self._scorer(shown, [records[row].facts["prompt"] for row in rows])
        for row, score in zip(rows, scores.tolist(), strict=True):
            if not score >= least:  # a NaN is no good score either
                verdicts[row] = Verdict("caption_score", f"{self._scorer_name} gives {score:.3f}; {least:g} expected")
        return verdicts


class ShardJudge:
    """Judges the images of one shard, in the order of its rows.

    Args:
        distance: Largest distance of two near-duplicates, in bits; None: they are not compared.
        earlier: Keys and hashes of the earlier samples in other shards, by caption id.
    """

    def __init__(self, distance: int | None, earlier: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> None:
        self._distance, self._earlier = distance, earlier
        self._accepted: list[tuple[str, np.ndarray]] = []

    def judge(self, looked: Looked) -> Verdict:
        """Returns the verdict on the next row's image, compared with the accepted ones before it."""
        others = [*self._earlier.get(looked.record.facts.get("caption_id", ""), ()), *self._accepted]
        if looked.verdict.reason or looked.image_hash is None or self._distance is None or not others:
            return looked.verdict
        hashes = np.stack([image_hash for _, image_hash in others])  # [N, 24]
        distances = np.bitwise_count(hashes ^ looked.image_hash).sum(axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] > self._distance:
            return looked.verdict
        return Verdict("duplicate", f"it differs from {others[nearest][0]!r} in {distances[nearest]} bits of its hash")

    def accept(self, looked: Looked) -> None:
        """Compares the rows to come with this image, too."""
        if looked.image_hash is not None:
            self._accepted.append((looked.record.key, looked.image_hash))


class QuarantineLimit:
    """Counts the images of a set and those refused, and ends a run that would refuse too many.

    Args:
        limit: Largest share that may be quarantined.
        after: Images that are judged before the share is watched.
        home: Where the quarantined ones are; for the message.

    Attributes:
        reasons: Quarantined images by reason.
    """

    def __init__(self, limit: float, *, after: int, home: str) -> None:
        self._limit, self._after, self._home = limit, after, home
        self._judged_count = 0
        self.reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, image_count: int, refused: Mapping[str, Verdict]) -> None:
        """Counts the images of a shard, and by key those of them that were refused."""
        self._judged_count += image_count
        for key, verdict in refused.items():
            self.reasons[verdict.reason] += 1
            self._examples.setdefault(verdict.reason, f"{key}: {verdict.detail}")

    def check(self, *, is_final: bool = False) -> None:
        """Ends the run if the share is too large, and enough images were judged or no more will be.

        Raises:
            QuarantineError: With the count, the share and an example of every reason.
        """
        refused, judged = self.reasons.total(), self._judged_count
        # A share of few images says little: one of the first ten would end a run of which 0.1 % are bad.
        if (is_final or judged >= self._after) and refused > self._limit * judged:
            rows = "".join(f"\n| {name} | {count} | {self._examples[name]} |" for name, count in self.counts().items())
            raise QuarantineError(
                f"{refused} of the {judged} images judged so far are quarantined "
                f"({refused / judged:.1%}); quality.max_quarantined allows {self._limit:.1%}."
                f"\n| reason | images | first |\n|---|---|---|{rows}\n"
                f"Look at them in {self._home}. Then change the generator's settings, the gate's thresholds (quality), "
                "or the limit. Whole shards are kept: kedro run --pipeline=generation"
            )

    def counts(self) -> dict[str, int]:
        """Returns the reasons with their counts, the most frequent first."""
        return dict(sorted(self.reasons.items(), key=lambda row: (-row[1], row[0])))


def hash_image(image: "Image") -> np.ndarray:
    """Returns a perceptual hash of 192 bits: which of the 64 slowest waves of brightness and two colours are there.

    It is the usual DCT hash, but of YCbCr, for of grey values alone a red and a blue digit would be the same; and a
    wave must be stronger than a JPEG's noise, for a median would turn the noise of a grey image's colours into bits.

    Args:
        image: In RGB, of any size.

    Returns:
        uint8 of shape [24].
    """
    pixels = np.asarray(image.convert("YCbCr").resize((HASH_SIDE, HASH_SIDE)), dtype=np.float32)
    waves = dctn(pixels, axes=(0, 1), norm="ortho")[:HASH_WAVES, :HASH_WAVES]
    waves[0, 0] = 0.0  # the mean: the same image a little brighter is a duplicate
    return np.packbits(waves > LEAST_WAVE)


def add_verdict(record: ImageRecord, verdict: Verdict) -> ImageRecord:
    """Returns a refused record with the reason among its facts, as it is quarantined."""
    return replace(record, facts={**record.facts, **verdict._asdict()})


def forget_verdict(record: ImageRecord) -> ImageRecord:
    """Returns a quarantined record as it was before it was judged; the inverse of ``add_verdict``."""
    spare = ("reason",) if record.facts.get("fault") else ("reason", "detail")
    return replace(record, facts={name: fact for name, fact in record.facts.items() if name not in spare})
