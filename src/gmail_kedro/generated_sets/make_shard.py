"""Makes one shard of a generated set, which appears as a whole or not at all.

A shard is a pure function of its rows, the settings and the gate. Nothing inside it is resumed: a kill costs the shard
that was being made, and nothing else is to be remembered. Until it is written it is held in memory, some ten megabytes
for 80 images of 512 pixels. Images that lie in files of the folder already (of a set that grew, or that another gate
judged) are taken and not made again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.generated_sets.image_maker import RESUME, Denoised, GeneratorError, ImageMaker, Row, retry_seed
from gmail_kedro.generated_sets.plan import PLAN_COLUMNS
from gmail_kedro.generated_sets.quality_gate import (
    Looked,
    QualityGate,
    Scorer,
    ShardJudge,
    Verdict,
    add_verdict,
    forget_verdict,
    hash_image,
)
from gmail_kedro.generated_sets.shard_format import QUARANTINE, ShardError, index_shard, read_image
from gmail_kedro.generated_sets.stored_images import SetDescription, describe_set, shard_path, write_judged
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageGenerator, ImageRecord
from gmail_kedro.params.quality import QualityParams

SETTINGS = ("generator", "revision", "steps", "guidance", "resolution", "jpeg_quality")


@dataclass(frozen=True)
class MadeShard:
    """What became of one shard."""

    is_written: bool  # whether its file is another than before
    image_count: int  # its images, refused ones included
    made_count: int  # images that the generator made, retries included
    reused_count: int  # images that lay in the folder already
    refused: Mapping[str, Verdict]  # its quarantined images, by key


@dataclass(eq=False)
class ShardMaker:
    """Makes one shard after another, in this process or in one elsewhere that sees the same folder.

    The generator is built once, when the first image is missing.
    """

    plan: pd.DataFrame  # all images of the set, as ``plan_images`` returns them
    build_generator: Callable[[], ImageGenerator]
    folder: Path  # home of the shards
    # What decides the pixels beside the plan; at least the names in ``SETTINGS``, JSON values only
    settings: Mapping[str, Any]
    quality: QualityParams  # what the gate refuses, and how often a refused image is made anew
    batch_size: int  # images made at once; on a CPU it does not decide the pixels
    scorer_name: str = ""  # which model gives caption scores
    # Builds it; needed only where the gate asks for a least caption score
    build_scorer: Callable[[], Scorer] | None = None
    kept: frozenset[str] = field(default=frozenset())  # ids of the shards that are there and stay as they are
    takes_retried: bool = True  # whether images that lie in the folder may be of another seed than the plan's

    def __post_init__(self) -> None:
        absent = [name for name in SETTINGS if name not in self.settings]
        absent += [name for name in PLAN_COLUMNS if name not in self.plan.columns]
        if absent:
            raise ValueError(f"The generation lacks {absent} among its settings and plan columns.")
        if self.plan.empty:
            raise ValueError("The generation plan is empty; expected one row an image.")
        if self.batch_size < 1:
            raise ValueError(f"generation.batch_size must be 1 or greater. Got {self.batch_size} instead.")
        if not 1 <= self.settings["jpeg_quality"] <= 95:
            raise ValueError(
                f"generation.jpeg_quality must be 1 to 95. Got {self.settings['jpeg_quality']} instead; "
                "above 95 files grow and images do not get better."
            )

    def __call__(self, shard_id: str) -> MadeShard:
        """Makes a shard; doing it twice, even at the same time, gives the same bytes.

        Raises:
            RuntimeError: If the generator fails.
            OSError: If the disk refuses or is gone.
        """
        rows = self.rows(shard_id)
        # In the order of the rows, each against the accepted ones before it: verdicts do not depend on the batch size.
        judge = ShardJudge(self.quality.duplicate_distance, self._hash_earlier_samples(shard_id, rows))
        accepted, quarantined, refused = [], [], {}
        made_count = reused_count = 0
        for batch, images in self._look_at_batches(rows):
            made_count, reused_count = made_count + len(batch.missing), reused_count + len(batch.reused)
            for row, first in zip(batch.rows, images, strict=True):
                looked, verdict, retry_count = self._retry(row, first, judge)
                made_count += retry_count
                if verdict.reason:
                    refused[row["key"]] = verdict
                    quarantined.append(add_verdict(looked.record, verdict))
                else:
                    accepted.append(looked.record)
                    judge.accept(looked)
        if not self.folder.is_dir():  # a writer would make it, on whatever lies under a disk that is gone
            raise FileNotFoundError(f"The folder {self.folder} is gone. Bring its disk back and start again: {RESUME}")
        is_written = write_judged(self.folder, shard_id, self.description.shards[shard_id], accepted, quarantined)
        return MadeShard(is_written, len(rows), made_count, reused_count, refused)

    @cached_property
    def description(self) -> SetDescription:
        """What the complete set will consist of."""
        return describe_set(self.plan, self.settings, self.gate.settings)

    @cached_property
    def gate(self) -> QualityGate:
        """Judges the images."""
        return QualityGate(
            self.quality,
            resolution=self.settings["resolution"],
            scorer_name=self.scorer_name,
            build_scorer=self.build_scorer,
        )

    def rows(self, shard_id: str) -> list[Row]:
        """Returns the plan's rows of one shard."""
        rows: list[Row] = self.plan.iloc[self._positions[shard_id]][list(PLAN_COLUMNS)].to_dict("records")
        return rows

    def count_rows(self, shard_id: str) -> int:
        """Returns how many images one shard is to have."""
        return len(self._positions[shard_id])

    def first_sample(self, shard_id: str) -> int:
        """Returns the sample index of a shard's first image."""
        return int(self.plan["sample_index"].iat[self._positions[shard_id][0]])

    @cached_property
    def _positions(self) -> Mapping[Any, Any]:
        return self.plan.groupby("shard_id", sort=False).indices

    @cached_property
    def _images(self) -> ImageMaker:
        return ImageMaker(self.build_generator, self.settings)

    @cached_property
    def _existing(self) -> "ExistingImages":
        return ExistingImages(self.folder, self.settings, self.kept, takes_retried=self.takes_retried)

    def _look_at_batches(self, rows: Sequence[Row]) -> Iterator[tuple["_Batch", list[Looked]]]:
        """Yields batches with what the gate says of each image by itself.

        A batch is denoised here while the one before is decoded, encoded and looked at in a second thread. Batches
        start at fixed rows: an image's neighbours, and so its last bits on a GPU, are those of any other run.
        """
        # One batch waits at most: two would hold more latents on the GPU and gain nothing.
        waiting: tuple[_Batch, Future[list[Looked]]] | None = None
        with ThreadPoolExecutor(max_workers=1) as pool:
            for start in range(0, len(rows), self.batch_size):
                batch = self._denoise(rows[start : start + self.batch_size])
                if waiting is not None:
                    yield waiting[0], self._wait_for(*waiting)
                waiting = batch, pool.submit(self._look, batch)
            if waiting is not None:
                yield waiting[0], self._wait_for(*waiting)

    def _denoise(self, rows: Sequence[Row]) -> "_Batch":
        found = ((row["key"], self._existing.take(row)) for row in rows)
        batch = _Batch(rows, {key: record for key, record in found if record is not None})
        if not batch.missing:
            return batch
        try:
            return _Batch(rows, batch.reused, self._images.denoise(batch.missing))
        except GeneratorError as error:
            return _Batch(rows, batch.reused, error)

    def _look(self, batch: "_Batch") -> list[Looked]:
        """Runs in the second thread."""
        if isinstance(batch.denoised, GeneratorError):
            raise batch.denoised
        made = [] if batch.denoised is None else self._images.decode(batch.denoised)
        return self.gate.look(batch.merge(made))

    def _wait_for(self, batch: "_Batch", looking: "Future[list[Looked]]") -> list[Looked]:
        try:
            return looking.result()
        except GeneratorError as error:
            return self.gate.look(batch.merge(self._images.make_apart(batch.missing, error)))

    def _retry(self, row: Row, first: Looked, judge: ShardJudge) -> tuple[Looked, Verdict, int]:
        """Returns a row's last image, the verdict on it, and how often it was made with another seed."""
        looked, verdict, count = first, judge.judge(first), 0
        for retry in range(first.record.facts.get("retry", 0) + 1, self.quality.retries + 1):
            if not verdict.reason:
                break
            # In this thread: the second one may be decoding the next batch, and the model has one owner.
            (looked,) = self.gate.look([self._images.make(row, retry)])
            verdict, count = judge.judge(looked), count + 1
        return looked, verdict, count

    def _hash_earlier_samples(self, shard_id: str, rows: Sequence[Row]) -> dict[str, list[tuple[str, np.ndarray]]]:
        """Returns keys and hashes of accepted images of the same captions in earlier shards, by caption id.

        Samples of one caption are the images most likely to repeat each other, and each sample has shards of its own.
        """
        hashes: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
        if self.quality.duplicate_distance is None or not any(row["sample_index"] for row in rows):
            return hashes
        # Decoded anew for each later sample: milliseconds beside a second of denoising, and nothing to keep in step.
        earlier = self.plan.iloc[: self._positions[shard_id][0]]
        earlier = earlier[earlier["caption_id"].isin([row["caption_id"] for row in rows])]
        for name, samples in earlier.groupby("shard_id", sort=False):
            path = shard_path(self.folder, str(name))
            places = index_shard(path)
            for key, caption_id in zip(samples["key"], samples["caption_id"], strict=True):
                if key in places:  # a quarantined one is no image that another could repeat
                    jpeg = read_image(path, key, places[key][0]).jpeg
                    hashes[caption_id].append((key, hash_image(decode_image(jpeg, name=key))))
        return hashes


@dataclass(frozen=True)
class _Batch:
    """Rows, those of their images that were there already, and the others half way or the error they ended in."""

    rows: Sequence[Row]
    reused: Mapping[str, ImageRecord]
    denoised: Denoised | GeneratorError | None = None

    @property
    def missing(self) -> list[Row]:
        return [row for row in self.rows if row["key"] not in self.reused]

    def merge(self, made: Sequence[ImageRecord]) -> list[ImageRecord]:
        records = {**self.reused, **{record.key: record for record in made}}
        return [records[row["key"]] for row in self.rows]


class ExistingImages:
    """The images in the tars of a folder, wherever they lie, but for those of shards that are kept.

    Args:
        folder: Home of the shards.
        settings: What an image must have been made with.
        kept: Ids of the shards that nobody asks for.
        takes_retried: Whether an image may be of another seed than the plan's, after a retry.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], kept: frozenset[str], *, takes_retried: bool) -> None:
        self._settings = settings
        self._takes_retried = takes_retried
        self._places: dict[str, tuple[Path, int]] = {}
        # The quarantine first: of two images of one key the accepted one is taken.
        for path in [*sorted((folder / QUARANTINE).glob("*.tar")), *sorted(folder.glob("*.tar"))]:
            if path.stem not in kept:
                self._places |= _index_readable(path)

    def take(self, row: Row) -> ImageRecord | None:
        """Returns the image that was made from this very row, or None."""
        if row["key"] not in self._places:
            return None
        path, offset = self._places[row["key"]]
        try:
            record = read_image(path, row["key"], offset)
        except (FileNotFoundError, ShardError):  # damaged, or replaced since: it is made again
            return None
        if record.facts.get("retry", 0) and not self._takes_retried:
            return None
        # Fact by fact, not by the shard's fingerprint: rows move between shards, and the rest of a shard may differ.
        wanted = {name: row[name] for name in ("caption_id", "image_id", "sample_index", "prompt")} | {
            **self._settings,
            "seed": retry_seed(row["seed"], record.facts.get("retry", 0)),
        }
        is_same = all(record.facts.get(name) == fact for name, fact in wanted.items())
        return forget_verdict(record) if is_same else None


def _index_readable(path: Path) -> dict[str, tuple[Path, int]]:
    try:
        return {key: (path, offset) for key, (offset, _) in index_shard(path).items()}
    except ShardError:  # what is damaged is made again
        return {}
