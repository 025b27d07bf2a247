"""Makes the pictures of a plan, shard by shard, so that a killed run goes on where it stopped."""

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gmail_kedro.interfaces import ImageGenerator
from gmail_kedro.records.jobs import JobMapper, map_here
from gmail_kedro.records.pictures import PictureMaker
from gmail_kedro.records.plan import PLAN_COLUMNS
from gmail_kedro.records.shards import ShardBusyError, ShardWriter, read_facts
from gmail_kedro.records.stored import (
    COMPLETE_FILE,
    UNFINISHED_FILE,
    SetDescription,
    describe_set,
    missing_shards,
    read_description,
    shard_path,
    write_description,
)

logger = logging.getLogger(__name__)
SETTINGS = ("generator", "revision", "steps", "guidance", "resolution", "jpeg_quality")
BUSY_SECONDS = 60.0
_SHARD_FILE = re.compile(r"(?P<shard_id>[0-9]{5,})\.tar(\.unfinished)?")


@dataclass(frozen=True)
class GenerationWork:
    """Everything it takes to make a generated set; the model itself is built only if a picture is missing.

    Attributes:
        plan: The pictures to make, as ``plan_images`` returns them.
        build_generator: Builds the image generator.
        settings: What decides the pixels beside the plan; at least the names in ``SETTINGS``, JSON values only.
        batch_size: Pictures made at once; it does not decide the pixels and may change between two runs.
        map_jobs: Who makes the shards: this process, or the workers of a cluster that sees the same folder.
    """

    plan: pd.DataFrame
    build_generator: Callable[[], ImageGenerator]
    settings: Mapping[str, Any]
    batch_size: int
    map_jobs: JobMapper = map_here

    def __post_init__(self) -> None:
        absent = [name for name in SETTINGS if name not in self.settings]
        absent += [name for name in PLAN_COLUMNS if name not in self.plan.columns]
        if absent:
            raise ValueError(f"The generation work lacks {absent} among its settings and plan columns.")
        if self.plan.empty:
            raise ValueError("The generation plan is empty; expected one row a picture.")
        if self.batch_size < 1:
            raise ValueError(f"generation.batch_size must be 1 or greater. Got {self.batch_size} instead.")
        if not 1 <= self.settings["jpeg_quality"] <= 95:
            raise ValueError(
                f"generation.jpeg_quality must be 1 to 95. Got {self.settings['jpeg_quality']} instead; "
                "above 95 files grow and pictures do not get better."
            )

    @cached_property
    def description(self) -> SetDescription:
        """What the finished set will consist of."""
        return describe_set(self.plan, self.settings)

    @property
    def fingerprint(self) -> str:
        """Hash of the plan and the settings."""
        return self.description.fingerprint


@dataclass(frozen=True)
class GenerationReport:
    """What a run of ``generate_shards`` did.

    Attributes:
        image_count: Pictures in the set.
        shard_count: Shards in the set.
        kept_count: Shards that were there already.
        resumed_count: Shards that were there in part.
        truncated_prompt_count: Prompts of the set that the generator had to cut.
        seconds: How long it took.
    """

    image_count: int
    shard_count: int
    kept_count: int
    resumed_count: int
    truncated_prompt_count: int
    seconds: float


def generate_shards(work: GenerationWork, folder: Path) -> GenerationReport:
    """Brings a folder to exactly the pictures of the plan.

    Shards that are there already are kept, one that a killed run left unfinished goes on at the batch it
    lost, shards made from other rows or settings are replaced one by one, and shards beyond the plan are removed.

    Raises:
        ValueError: If a picture is refused by ``pictures.refuse_bad_image``, or the generator's weights are not the
            ones the plan was made for.
        RuntimeError: If the generator fails (the message names the captions of the batch), or another process
            is generating into the folder.
        OSError: If the disk refuses. Whatever fails, finished batches are kept.
    """
    started = time.perf_counter()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(folder):
        missing = missing_shards(folder, work.description)
        resumed_count = 0
        if missing or not _is_complete(folder, work.description):
            _announce(folder, work.description)
            resumed_count = _make_shards(work, folder, missing)
            _close_set(folder, work.description)
        _remove_extra(folder, work.description)
    report = GenerationReport(
        image_count=len(work.plan),
        shard_count=len(work.description.shards),
        kept_count=len(work.description.shards) - len(missing),
        resumed_count=resumed_count,
        truncated_prompt_count=(read_description(folder) or work.description).truncated_prompt_count,
        seconds=time.perf_counter() - started,
    )
    _log(report, folder)
    return report


@dataclass(frozen=True)
class ShardJob:
    """One shard to make; whoever sees the folder can do it, and doing it twice gives the same bytes.

    Attributes:
        path: Where the finished shard goes.
        rows: Its plan rows.
        fingerprint: Hash of the rows and the settings.
    """

    path: Path
    rows: list[dict[str, Any]]
    fingerprint: str


class ShardWorker:
    """Makes shards, one after another, with a generator that is built once, when the first picture is missing.

    Args:
        build_generator: Builds the image generator.
        settings: As in ``GenerationWork``.
        batch_size: Pictures made at once.
    """

    def __init__(
        self, build_generator: Callable[[], ImageGenerator], settings: Mapping[str, Any], batch_size: int
    ) -> None:
        self._maker, self._batch_size = PictureMaker(build_generator, settings), batch_size

    def __call__(self, job: ShardJob) -> bool:
        """Makes a shard from where it was left; returns whether it was there in part.

        Raises:
            ValueError: If a picture is refused.
            RuntimeError: If the generator fails, or another process keeps writing the shard.
            OSError: If the disk refuses.
        """
        with _open_writer(job) as writer:
            is_resumed = writer.written_count > 0
            with tqdm(total=len(job.rows), desc=job.path.name, unit="image", leave=False, disable=None) as progress:
                _fill(writer, job.rows, self._maker, self._batch_size, progress)
            writer.finish()
        return is_resumed


def _make_shards(work: GenerationWork, folder: Path, missing: list[str]) -> int:
    """Makes the missing shards; returns how many of them were there in part."""
    shards = dict(tuple(work.plan.groupby("shard_id", sort=False)))
    to_make = sum(len(shards[name]) for name in missing)
    jobs = (
        ShardJob(shard_path(folder.absolute(), name), shards[name].to_dict("records"), work.description.shards[name])
        for name in missing
    )
    build_worker = partial(ShardWorker, work.build_generator, work.settings, work.batch_size)
    resumed_count = 0
    with tqdm(total=len(work.plan), initial=len(work.plan) - to_make, unit="image", disable=None) as progress:
        for name, is_resumed in zip(missing, work.map_jobs(build_worker, jobs), strict=True):
            resumed_count += is_resumed
            progress.update(len(shards[name]))
    return resumed_count


def _open_writer(job: ShardJob) -> ShardWriter:
    """Opens the shard; waits for the writer of a lost machine, which may take a moment to die."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return ShardWriter(job.path, [row["key"] for row in job.rows], job.fingerprint)
        except ShardBusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _fill(
    writer: ShardWriter, rows: list[dict[str, Any]], maker: PictureMaker, batch_size: int, progress: "tqdm[Any]"
) -> None:
    # Batches start at fixed rows: a picture's neighbours, and so its last bits on a GPU, survive a restart.
    if writer.written_count < len(rows):
        writer.rewind(writer.written_count // batch_size * batch_size)
    progress.update(writer.written_count)
    for start in range(writer.written_count, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        writer.append(maker.make(batch))
        progress.update(len(batch))


def _is_complete(folder: Path, wanted: SetDescription) -> bool:
    try:
        found = read_description(folder)
    except ValueError:
        return False
    return found is not None and found.fingerprint == wanted.fingerprint


def _announce(folder: Path, wanted: SetDescription) -> None:
    # From here until set.json is back, nobody can take the folder for a complete set.
    (folder / COMPLETE_FILE).unlink(missing_ok=True)
    write_description(folder, wanted, UNFINISHED_FILE)


def _close_set(folder: Path, wanted: SetDescription) -> None:
    truncated = sum(facts["truncated"] for name in wanted.shards for facts in read_facts(shard_path(folder, name)))
    write_description(folder, replace(wanted, truncated_prompt_count=truncated), COMPLETE_FILE)


def _remove_extra(folder: Path, wanted: SetDescription) -> None:
    for path in sorted(folder.iterdir()):
        match = _SHARD_FILE.fullmatch(path.name)
        if match and (match["shard_id"] not in wanted.shards or path.suffix == ".unfinished"):
            logger.info("Removing %s: it is not part of the plan.", path)
            path.unlink()
    (folder / UNFINISHED_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Keeps other processes from generating into the folder; the kernel lets go if this one dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another process is generating into {folder}; wait for it or stop it.") from error
        yield
    finally:
        os.close(descriptor)


def _log(report: GenerationReport, folder: Path) -> None:
    made = report.shard_count - report.kept_count - report.resumed_count
    shards = f"{report.kept_count} kept, {report.resumed_count} resumed, {made} made"
    counts = (folder, report.image_count, report.shard_count, shards, report.seconds)
    logger.info("Generated set %s: %d pictures in %d shards (%s) in %.1f s.", *counts)
    if report.truncated_prompt_count:
        logger.warning("%d prompts were longer than the generator reads and were cut.", report.truncated_prompt_count)
