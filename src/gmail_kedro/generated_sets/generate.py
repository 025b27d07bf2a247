"""Generates the images of a plan into shards, so that a killed run goes on at the shard it was killed in."""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gmail_kedro.generated_sets.make_shard import MadeShard, ShardMaker
from gmail_kedro.generated_sets.quality_gate import QuarantineLimit, Scorer, Verdict
from gmail_kedro.generated_sets.shard_format import QUARANTINE, probe_shard, read_facts
from gmail_kedro.generated_sets.stored_images import (
    COMPLETE_FILE,
    UNFINISHED_FILE,
    SetDescription,
    missing_shards,
    quarantine_path,
    read_description,
    shard_path,
    write_description,
)
from gmail_kedro.interfaces import ImageGenerator
from gmail_kedro.params.quality import QualityParams

logger = logging.getLogger(__name__)
# Maps a builder of a worker and jobs to their results, in order; the jobs of one call do not wait for one another.
MapJobs = Callable[[Callable[[], Callable[[Any], Any]], Iterable[Any]], Iterator[Any]]
_SHARD_FILE = re.compile(r"(?P<shard_id>[0-9]{5,})\.tar(?P<part>\..+)?")


@dataclass(frozen=True)
class GenerationReport:
    """What a run of ``generate_images`` did."""

    image_count: int
    shard_count: int
    kept_count: int  # shards that were there already
    reused_count: int  # images of other shards that were there already
    made_count: int  # images that the generator made
    quarantined: Mapping[str, int]  # how many images of the set are quarantined, by reason
    truncated_prompt_count: int  # prompts of the set that the generator had to cut
    seconds: float


def generate_images(
    plan: pd.DataFrame,
    build_generator: Callable[[], ImageGenerator],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    quality: QualityParams,
    batch_size: int,
    scorer_name: str = "",
    build_scorer: Callable[[], Scorer] | None = None,
    map_jobs: MapJobs | None = None,
) -> GenerationReport:
    """Brings a folder to exactly the images of a plan, judged by exactly the gate that is given.

    Shards that are there already are kept. Of shards that hold other rows now, or that another gate judged, only new
    rows are generated. Shards of other settings are replaced one by one, and those beyond the plan are removed.

    Example::

        plan = plan_images(captions, params=generation)
        generate_images(plan, lambda: generator, folder, settings=settings, quality=quality, batch_size=16)
        jpeg = open_images(folder).read(plan["key"][0])

    Args:
        plan: The images to make, as ``plan_images`` returns them.
        build_generator: Builds the image generator; called only if an image is missing.
        folder: Home of the shards.
        settings: What decides the pixels beside the plan and is recorded with every image; at least ``generator``,
            ``revision``, ``steps``, ``guidance``, ``resolution`` and ``jpeg_quality``, JSON values only.
        quality: What the gate refuses, how often a refused image is made anew, and how many may be refused.
        batch_size: Images made at once.
        scorer_name: Which model gives caption scores.
        build_scorer: Builds it; needed only where the gate asks for a least caption score.
        map_jobs: Makes shards on a cluster that sees the same folder; None: this process does.

    Raises:
        ValueError: If the generator's weights are not the ones the settings name, or something cannot be made.
        QuarantineError: If the gate refuses too large a share of the images.
        RuntimeError: If the generator fails (the message names the captions of the batch), or another process
            is generating into the folder.
        OSError: If the disk refuses. Whatever fails, whole shards are kept.
    """
    started, folder = time.perf_counter(), Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    maker = ShardMaker(plan, build_generator, folder, settings, quality, batch_size, scorer_name, build_scorer)
    with _hold(folder):
        made, limit = _bring(maker, map_jobs)
    closed = read_description(folder)
    report = GenerationReport(
        image_count=len(plan),
        shard_count=len(maker.description.shards),
        kept_count=len(maker.description.shards) - sum(shard.is_written for shard in made),
        reused_count=sum(shard.reused_count for shard in made),
        made_count=sum(shard.made_count for shard in made),
        quarantined=limit.counts(),
        truncated_prompt_count=closed.truncated_prompt_count if closed else 0,
        seconds=time.perf_counter() - started,
    )
    _log(report, folder)
    return report


def _bring(maker: ShardMaker, map_jobs: MapJobs | None) -> tuple[list[MadeShard], QuarantineLimit]:
    """Does the work in a folder that is held; returns what became of the shards that were not kept."""
    folder, wanted = maker.folder, maker.description
    last = _read_last(folder)
    judged_by = _find_gate(folder, last, wanted)
    to_make = _find_to_make(folder, judged_by, wanted)
    maker.kept = frozenset(wanted.shards) - frozenset(to_make)
    # What another gate accepted after a retry, this one may take at the first seed, as it would in an empty folder.
    maker.takes_retried = bool(judged_by)
    limit = QuarantineLimit(
        maker.quality.max_quarantined, after=maker.quality.limit_after, home=str(folder / QUARANTINE)
    )
    for name in wanted.shards:
        if name in maker.kept:
            limit.add(maker.count_rows(name), _read_refused(folder, name))
    limit.check(is_final=not to_make)  # before a model is built
    made: list[MadeShard] = []
    if to_make or not _is_complete(folder, wanted):
        _warn_of_replacing(folder, last, wanted)
        # From here until set.json is back, nobody can take the folder for a complete set.
        write_description(folder, replace(wanted, quality=judged_by), UNFINISHED_FILE)
        (folder / COMPLETE_FILE).unlink(missing_ok=True)
        made = _make_shards(maker, to_make, limit, map_jobs)
        limit.check(is_final=True)
        _close(folder, wanted, limit)
    _remove_extra(folder, wanted)
    return made, limit


def _find_gate(folder: Path, last: SetDescription | None, wanted: SetDescription) -> Mapping[str, Any]:
    """Returns the gate whose verdicts the shards hold, with as many retries or fewer; empty: unknown, or another."""
    found = last.quality if last is not None else {} if any(folder.glob("*.tar")) else wanted.quality
    # From the first shard that another gate judges, the folder holds verdicts of two: a kill must not hide that.
    is_same = {**found, "retries": wanted.quality["retries"]} == wanted.quality
    # Of more retries than are asked for, some may have been accepted: no run with fewer makes those.
    return found if is_same and found.get("retries", 0) <= wanted.quality["retries"] else {}


def _find_to_make(folder: Path, judged_by: Mapping[str, Any], wanted: SetDescription) -> list[str]:
    """Returns the shards that are missing, those with an image to retry, or all where every image is judged again."""
    missing = missing_shards(folder, wanted)
    if judged_by == wanted.quality:
        return missing
    absent = set(missing)
    return [
        name
        for name in wanted.shards
        if not judged_by or name in absent or probe_shard(shard_path(folder, name)).quarantined_count
    ]


def _make_shards(
    maker: ShardMaker, names: Sequence[str], limit: QuarantineLimit, map_jobs: MapJobs | None
) -> list[MadeShard]:
    made, image_count = [], sum(map(maker.count_rows, names))
    with tqdm(total=len(maker.plan), initial=len(maker.plan) - image_count, unit="image", disable=None) as progress:
        for shard in _map(maker, names, map_jobs):
            made.append(shard)
            limit.add(shard.image_count, shard.refused)
            limit.check()
            progress.update(shard.image_count)
    return made


def _map(maker: ShardMaker, names: Sequence[str], map_jobs: MapJobs | None) -> Iterator[MadeShard]:
    if map_jobs is None:
        yield from map(maker, names)
        return
    # A copy without what was derived from it: a worker elsewhere derives its own.
    build_worker = partial(replace, replace(maker))
    # An image is compared with its caption's earlier samples, so those must be there: one call a sample.
    for _, of_sample in groupby(names, key=maker.first_sample):
        yield from map_jobs(build_worker, list(of_sample))


def _is_complete(folder: Path, wanted: SetDescription) -> bool:
    """Says whether the folder declares just what is wanted, whatever it counted."""
    try:
        found = read_description(folder)
    except ValueError:
        return False
    return found is not None and wanted == replace(found, truncated_prompt_count=0, quarantined={})


def _read_last(folder: Path) -> SetDescription | None:
    """Returns what the folder says it holds, complete or not; None if it says nothing that can be read."""
    for name in (COMPLETE_FILE, UNFINISHED_FILE):
        with contextlib.suppress(ValueError):  # a damaged one is as none: all images are judged again
            found = read_description(folder, name)
            if found is not None:
                return found
    return None


def _warn_of_replacing(folder: Path, last: SetDescription | None, wanted: SetDescription) -> None:
    """Says which images of the folder will be gone: of other settings, of other shards, and those nobody asks for."""
    if last is None:
        return
    names = sorted({*last.settings, *wanted.settings})
    values = ((name, last.settings.get(name), wanted.settings.get(name)) for name in names)
    changes = [f"{name} {before!r}, now {now!r}" for name, before, now in values if before != now]
    shards = list(last.shards)
    # The last shard of each lane may grow; any other changes only where rows moved.
    full = [name for name, following in pairwise(shards) if int(following) == int(name) + 1]
    moved = [name for name in full if wanted.shards.get(name, last.shards[name]) != last.shards[name]]
    if changes:
        gone = f"was made with other settings ({'; '.join(changes)}): its {last.image_count} images are replaced"
    elif last.image_count > wanted.image_count:
        gone = f"has {last.image_count} images, and {wanted.image_count} are asked for now: the others are removed"
    elif moved:
        gone = (
            f"has other rows in {len(moved)} of its {len(shards)} shards than are asked for now (another "
            "generation.shard_size, or other captions): what changed is generated again"
        )
    else:
        return
    logger.warning("The set in %s %s. To keep them, stop, and name another set: --params=set=…", folder, gone)


def _read_refused(folder: Path, shard_id: str) -> dict[str, Verdict]:
    if not probe_shard(shard_path(folder, shard_id)).quarantined_count:
        return {}
    facts = read_facts(quarantine_path(folder, shard_id))
    return {row["key"]: Verdict(row["reason"], row["detail"]) for row in facts}


def _close(folder: Path, wanted: SetDescription, limit: QuarantineLimit) -> None:
    # From the disk, not from what this run made: most shards may be of runs before.
    tars = [path for name in wanted.shards for path in (shard_path(folder, name), quarantine_path(folder, name))]
    truncated = sum(facts["truncated"] for path in tars if path.is_file() for facts in read_facts(path))
    closed = replace(wanted, truncated_prompt_count=truncated, quarantined=limit.counts())
    write_description(folder, closed, COMPLETE_FILE)


def _remove_extra(folder: Path, wanted: SetDescription) -> None:
    """Removes shards, and parts of shards, that a complete set does not consist of. Other files stay."""
    # After set.json is there: a kill in between leaves files too many and never an image too few.
    shutil.rmtree(folder / "former", ignore_errors=True)  # of an earlier version
    for path in sorted([*folder.iterdir(), *(folder / QUARANTINE).glob("*")]):
        match = _SHARD_FILE.fullmatch(path.name)
        if match is None and path.suffix != ".partial":
            continue
        is_needed = match is not None and not match["part"] and match["shard_id"] in wanted.shards
        if is_needed and path.parent != folder:
            is_needed = probe_shard(folder / path.name).quarantined_count > 0
        if not is_needed:
            logger.info("Removing %s: it is not part of the plan.", path)
            path.unlink()
    with contextlib.suppress(OSError):  # not empty, or not there
        (folder / QUARANTINE).rmdir()
    (folder / UNFINISHED_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Keeps other processes from generating into the folder; the kernel lets go if this one dies."""
    # flock on the folder itself: no lock file to leave behind, and none in the set that is published.
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
    logger.info(
        "Generated set %s: %d images in %d shards (%d kept), %d generated and %d reused in %.1f s.",
        folder, report.image_count, report.shard_count, report.kept_count, report.made_count, report.reused_count,
        report.seconds,
    )  # fmt: skip
    if report.quarantined:
        logger.warning("Quarantined images of %s, by reason: %s.", folder, dict(report.quarantined))
    if report.truncated_prompt_count:
        logger.warning("%d prompts were longer than the generator reads and were cut.", report.truncated_prompt_count)
