"""Makes one shard after another, in this process or in one elsewhere that sees the same folder."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gmail_kedro.generated_sets.filling import ShardFiller
from gmail_kedro.generated_sets.generation_work import GenerationWork
from gmail_kedro.generated_sets.pictures import PictureMaker
from gmail_kedro.generated_sets.shards import ShardBusyError, ShardWriter
from gmail_kedro.generated_sets.siblings import ShardJudges
from gmail_kedro.generated_sets.stored import shard_path
from gmail_kedro.generated_sets.takeover import FormerPictures
from gmail_kedro.generated_sets.tally import QuarantineTally

BUSY_SECONDS = 60.0


@dataclass(frozen=True)
class MadeShard:
    """What became of one shard.

    Attributes:
        is_resumed: Whether it was there in part.
        taken_count: Pictures that were taken over from shards of another layout.
        made_count: Pictures that the generator made.
        tally: The pictures that were judged, and what was refused.
    """

    is_resumed: bool
    taken_count: int
    made_count: int
    tally: QuarantineTally


class ShardWorker:
    """Makes shards with a generator that is built once, when the first picture is missing.

    Args:
        work: What the set is to be.
        folder: Its home.
        tally: What was judged before; more is counted in it, and too much refused ends the run.
    """

    def __init__(self, work: GenerationWork, folder: Path, tally: QuarantineTally) -> None:
        self._work, self._folder, self._tally = work, folder, tally
        self._maker = PictureMaker(work.build_generator, work.settings)
        self._former = FormerPictures(folder, work.settings)
        self._judges = ShardJudges(work.gate, work.plan, folder)

    def __call__(self, shard_id: str) -> MadeShard:
        """Makes a shard from where it was left; doing it twice gives the same bytes.

        Raises:
            RuntimeError: If the generator fails, or another process keeps writing the shard.
            QuarantineError: If too many pictures are refused.
            OSError: If the disk refuses. Whatever fails, finished batches are kept.
        """
        rows, before = self._work.rows(shard_id), copy.deepcopy(self._tally)
        filler = ShardFiller(self._maker, self._judges, self._former, self._tally, batch_size=self._work.batch_size)
        with self._open(shard_id, [row["key"] for row in rows]) as writer:
            is_resumed = writer.written_count > 0
            with tqdm(total=len(rows), desc=shard_id, unit="image", leave=False, disable=None) as progress:
                filler.fill(writer, rows, progress)
        return MadeShard(is_resumed, filler.taken_count, filler.made_count, self._tally.since(before))

    def _open(self, shard_id: str, keys: list[str]) -> ShardWriter:
        """Opens the shard; waits for the writer of a lost machine, which may take a moment to die."""
        fingerprint = self._work.description.shards[shard_id]
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return ShardWriter(shard_path(self._folder, shard_id), keys, fingerprint)
            except ShardBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
