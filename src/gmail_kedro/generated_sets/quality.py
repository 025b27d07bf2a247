"""The quality gate: which generated pictures must not reach training, and why.

A picture is judged by its JPEG, the bytes training will see, so a stored picture can be judged again at any time with
the same outcome. Near-duplicates are looked for among the accepted pictures of earlier rows of the same shard, and
among the earlier samples of the same caption wherever they are; never among all pictures of a set, so that a shard can
be made, remade or moved without the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
# Maps pictures and their captions to cosines, one each.
Scorer = Callable[[Sequence["Image"], Sequence[str]], np.ndarray]


class Verdict(NamedTuple):
    """What the gate says of a picture: nothing when it is accepted, otherwise why not, in a word and in a sentence."""

    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Looked:
    """A record, what is wrong with it by itself, and its hash for the comparison with others."""

    record: ImageRecord
    verdict: Verdict
    image_hash: np.ndarray | None


class QualityGate:
    """Judges pictures by themselves.

    Args:
        params: The thresholds.
        resolution: Height and width that a picture must have, in pixels.
        scorer_name: Which model gives the caption scores; part of the gate's settings where there is a least score.
        build_scorer: Builds what gives them; called when the first picture is scored, and only if there is a least
            score.

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
        names = ("black_level", "min_deviation", "duplicate_distance", "min_caption_score", "retries")
        settings = {name: getattr(self.params, name) for name in names}
        return settings | {"scorer": self._scorer_name if self.params.min_caption_score is not None else ""}

    def look(self, records: Sequence[ImageRecord]) -> list[Looked]:
        """Judges each record by itself: faults, size, emptiness, caption score."""
        images = [decode_image(record.jpeg, name=record.key) if record.jpeg else None for record in records]
        verdicts = [self._judge_pixels(record, image) for record, image in zip(records, images, strict=True)]
        verdicts = self._judge_scores(records, images, verdicts)
        return [
            Looked(record, verdict, hash_image(image) if image is not None and self._compares else None)
            for record, image, verdict in zip(records, images, verdicts, strict=True)
        ]

    def look_at_all(self, records: Iterable[ImageRecord], *, batch_size: int) -> Iterator[Looked]:
        """Yields what ``look`` says of many records, in order, looking at a batch at once."""
        source = iter(records)
        while batch := list(islice(source, batch_size)):
            yield from self.look(batch)

    @property
    def _compares(self) -> bool:
        return self.params.duplicate_distance is not None

    def _judge_pixels(self, record: ImageRecord, image: "Image | None") -> Verdict:
        fault = record.facts.get("fault", "")
        if fault or image is None:
            return Verdict(fault or "failed", record.facts.get("detail") or FAULTS.get(fault, fault))
        if image.size != (self._resolution, self._resolution):
            wanted = f"{self._resolution} x {self._resolution}"
            return Verdict("wrong_size", f"it is {image.width} x {image.height} pixels; expected {wanted}")
        pixels = np.asarray(image)
        if pixels.max() <= self.params.black_level:
            return Verdict(
                "black", f"its brightest pixel is {pixels.max()}; more than {self.params.black_level} expected"
            )
        if (pixels == pixels[0, 0]).all():
            return Verdict("blank", f"it is of one colour, {tuple(pixels[0, 0].tolist())}")
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
        shown = [image for image in (images[row] for row in rows) if image is not None]
        scores = self._scorer(shown, [records[row].facts["prompt"] for row in rows])
        for row, score in zip(rows, scores.tolist(), strict=True):
            if not score >= least:  # a NaN is no good score either
                verdicts[row] = Verdict("caption_score", f"{self._scorer_name} gives {score:.3f}; {least:g} expected")
        return verdicts


class ShardJudge:
    """Judges the pictures of one shard, in the order of its rows.

    Args:
        gate: Judges each by itself.
        siblings: Keys and hashes of the earlier samples in other shards, by caption id.

    Attributes:
        verdicts: Those of the rows so far.
    """

    def __init__(self, gate: QualityGate, siblings: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> None:
        self.verdicts: list[Verdict] = []
        self._distance, self._siblings = gate.params.duplicate_distance, siblings
        self._rows: list[tuple[str, int]] = []
        self._hashes = np.zeros((0, HASH_WAVES * HASH_WAVES * 3 // 8), dtype=np.uint8)

    def judge(self, looked: Looked) -> Verdict:
        """Returns the verdict on the next row's picture, compared with the accepted ones before it."""
        if looked.verdict.reason or looked.image_hash is None or self._distance is None:
            return looked.verdict
        siblings = self._siblings.get(looked.record.facts.get("caption_id", ""), ())
        keys = [key for key, _ in siblings] + [key for key, _ in self._rows]
        if not keys:
            return looked.verdict
        hashes = np.vstack([image_hash[None] for _, image_hash in siblings] + [self._hashes])
        distances = np.bitwise_count(hashes ^ looked.image_hash).sum(axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] > self._distance:
            return looked.verdict
        return Verdict("duplicate", f"it differs from {keys[nearest]!r} in {distances[nearest]} bits of its hash")

    def settle(self, looked: Looked, verdict: Verdict) -> None:
        """Takes a verdict for the row's last one and goes on to the next row."""
        if not verdict.reason and looked.image_hash is not None:
            self._rows.append((looked.record.key, len(self.verdicts)))
            self._hashes = np.vstack([self._hashes, looked.image_hash[None]])
        self.verdicts.append(verdict)

    def cut(self, count: int) -> None:
        """Forgets every row after the first ``count``."""
        del self.verdicts[count:]
        self._rows = [row for row in self._rows if row[1] < count]
        self._hashes = self._hashes[: len(self._rows)]


def hash_image(image: "Image") -> np.ndarray:
    """Returns a perceptual hash of 192 bits: which of the 64 slowest waves of brightness and two colours are there.

    It is the usual DCT hash, but of YCbCr, for of grey values alone a red and a blue digit would be the same; and a
    wave must be stronger than a JPEG's noise, for a median would turn the noise of a grey picture's colours into bits.

    Args:
        image: In RGB, of any size.

    Returns:
        uint8 of shape [24].
    """
    pixels = np.asarray(image.convert("YCbCr").resize((HASH_SIDE, HASH_SIDE)), dtype=np.float32)
    waves = dctn(pixels, axes=(0, 1), norm="ortho")[:HASH_WAVES, :HASH_WAVES]
    waves[0, 0] = 0.0  # the mean
    return np.packbits(waves > LEAST_WAVE)


def tell_refused(keys: Sequence[str], verdicts: Sequence[Verdict]) -> Mapping[str, Mapping[str, str]]:
    """Returns the refused pictures of a shard by key, with what their facts should say."""
    return {key: verdict._asdict() for key, verdict in zip(keys, verdicts, strict=True) if verdict.reason}


def forget_verdict(record: ImageRecord) -> ImageRecord:
    """Returns a quarantined record as it was before it was judged; the inverse of adding what ``tell_refused`` says."""
    spare = ("reason",) if record.facts.get("fault") else ("reason", "detail")
    return replace(record, facts={name: fact for name, fact in record.facts.items() if name not in spare})
