"""Fills a shard: batches are denoised in one thread while the batch before is decoded, judged and encoded in another.

All pictures of a set have one resolution, so a batch is simply the next rows.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from gmail_kedro.generated_sets.pictures import Denoised, GeneratorError, PictureMaker, Row
from gmail_kedro.generated_sets.quality import Looked, ShardJudge, tell_refused
from gmail_kedro.generated_sets.shards import ShardWriter
from gmail_kedro.generated_sets.siblings import ShardJudges
from gmail_kedro.generated_sets.takeover import FormerPictures
from gmail_kedro.generated_sets.tally import QuarantineTally
from gmail_kedro.interfaces import ImageRecord


@dataclass(frozen=True)
class _Batch:
    """Rows, those of their pictures that were there already, and the others half way or the error they ended in."""

    rows: Sequence[Row]
    taken: dict[str, ImageRecord]
    half_way: Denoised | GeneratorError | None

    @property
    def missing(self) -> list[Row]:
        return [row for row in self.rows if row["key"] not in self.taken]

    def merge(self, made: Sequence[ImageRecord]) -> list[ImageRecord]:
        records = self.taken | {record.key: record for record in made}
        return [records[row["key"]] for row in self.rows]


class ShardFiller:
    """Makes the pictures of one shard after the other.

    Args:
        maker: Makes pictures.
        judges: Judge them.
        former: Pictures that need not be made again.
        tally: Counts what was refused, and ends the run if it is too much.
        batch_size: Pictures denoised at once.

    Attributes:
        taken_count: Pictures that came from ``former``.
        made_count: Pictures that the generator made, retries included.
    """

    def __init__(
        self,
        maker: PictureMaker,
        judges: ShardJudges,
        former: FormerPictures,
        tally: QuarantineTally,
        *,
        batch_size: int,
    ) -> None:
        self._maker, self._former, self._tally = maker, former, tally
        self._judges, self._gate = judges, judges.gate
        self._batch_size = batch_size
        self.taken_count = self.made_count = 0

    def fill(self, writer: ShardWriter, rows: Sequence[Row], progress: "tqdm[Any]") -> None:
        """Brings a shard to all of its rows and finishes it; what a killed run left of it is kept.

        Raises:
            RuntimeError: If the generator fails on all rows of a batch.
            QuarantineError: If too many pictures are refused.
            OSError: If the disk refuses. Whatever fails, finished batches are kept.
        """
        judge = self._judges.open(rows)
        self._go_on(writer, rows, judge)
        for row, verdict in zip(rows, judge.verdicts, strict=False):
            self._tally.add(row["key"], verdict)
        progress.update(writer.written_count)
        starts = range(writer.written_count, len(rows), self._batch_size)
        self._make(writer, (rows[start : start + self._batch_size] for start in starts), judge, progress)
        writer.finish(tell_refused([row["key"] for row in rows], judge.verdicts))

    def _go_on(self, writer: ShardWriter, rows: Sequence[Row], judge: ShardJudge) -> None:
        """Judges what is in the unfinished file, and cuts it where a row is absent or is due for another try."""
        for looked in self._gate.look_at_all(writer.read(), batch_size=self._batch_size):
            verdict = judge.judge(looked)
            if verdict.reason and looked.record.facts.get("retry", 0) < self._gate.params.retries:
                break
            judge.settle(looked, verdict)
        count = len(judge.verdicts)
        if count < len(rows):
            # Batches start at fixed rows: a picture's neighbours, and so its last bits on a GPU, survive a restart.
            count = count // self._batch_size * self._batch_size
        writer.rewind(count)
        judge.cut(count)

    def _make(
        self, writer: ShardWriter, batches: Iterable[Sequence[Row]], judge: ShardJudge, progress: "tqdm[Any]"
    ) -> None:
        waiting: list[tuple[_Batch, Future[list[Looked]]]] = []

        def write() -> None:
            if waiting:
                records = self._settle(*waiting.pop(), judge)
                writer.append(records)
                progress.update(len(records))
                self._tally.check()

        with ThreadPoolExecutor(max_workers=1) as pool:
            try:
                for rows in batches:
                    batch = self._denoise(rows)
                    write()  # the batch before; only one is ever between the two threads
                    waiting.append((batch, pool.submit(self._decode, batch)))
            finally:
                write()  # whatever stops the run, what is denoised is kept

    def _denoise(self, rows: Sequence[Row]) -> _Batch:
        found = ((row["key"], self._former.take(row)) for row in rows)
        taken = {key: record for key, record in found if record is not None}
        batch = _Batch(rows, taken, None)
        if not batch.missing:
            return batch
        try:
            return _Batch(rows, taken, self._maker.denoise(batch.missing))
        except GeneratorError as error:
            return _Batch(rows, taken, error)

    def _decode(self, batch: _Batch) -> list[Looked]:
        """Runs in the second thread."""
        if isinstance(batch.half_way, GeneratorError):
            raise batch.half_way
        made = self._maker.decode(batch.half_way) if batch.half_way is not None else []
        return self._gate.look(batch.merge(made))

    def _settle(self, batch: _Batch, decoding: "Future[list[Looked]]", judge: ShardJudge) -> list[ImageRecord]:
        """Returns the batch's last records: those accepted, and those refused after every retry."""
        try:
            pictures = decoding.result()
        except GeneratorError as error:
            pictures = self._gate.look(batch.merge(self._maker.make_apart(batch.missing, error)))
        self.taken_count += len(batch.taken)
        self.made_count += len(batch.missing)
        records = []
        for row, first in zip(batch.rows, pictures, strict=True):
            looked, verdict = first, judge.judge(first)
            for retry in range(first.record.facts.get("retry", 0) + 1, self._gate.params.retries + 1):
                if not verdict.reason:
                    break
                (looked,) = self._gate.look([self._maker.make(row, retry)])
                self.made_count += 1
                verdict = judge.judge(looked)
            judge.settle(looked, verdict)
            self._tally.add(row["key"], verdict)
            records.append(looked.record)
        return records
