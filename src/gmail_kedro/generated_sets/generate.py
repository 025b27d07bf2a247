"""Makes the pictures of a plan, shard by shard, so that a killed run goes on where it stopped."""

import copy
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from tqdm import tqdm

from gmail_kedro.generated_sets.folder import (
    announce,
    close_set,
    hold_folder,
    is_complete_set,
    read_gate,
    remove_extra,
    warn_of_replacing,
)
from gmail_kedro.generated_sets.generation_work import GenerationWork
from gmail_kedro.generated_sets.quality import Verdict
from gmail_kedro.generated_sets.shard_worker import MadeShard, ShardWorker
from gmail_kedro.generated_sets.shards import QUARANTINE, probe_shard, read_facts
from gmail_kedro.generated_sets.siblings import ShardJudges
from gmail_kedro.generated_sets.stored import (
    missing_shards,
    quarantine_path,
    read_description,
    shard_path,
)
from gmail_kedro.generated_sets.takeover import (
    set_aside_misjudged,
    set_aside_others,
)
from gmail_kedro.generated_sets.tally import QuarantineTally

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerationReport:
    """What a run of ``generate_shards`` did.

    Attributes:
        image_count: Pictures in the set.
        shard_count: Shards in the set.
        kept_count: Shards that were there already.
        resumed_count: Shards that were there in part.
        taken_count: Pictures that were taken over from shards of another layout.
        made_count: Pictures that the generator made.
        quarantined: How many pictures of the set are quarantined, by reason.
        truncated_prompt_count: Prompts of the set that the generator had to cut.
        seconds: How long it took.
    """

    image_count: int
    shard_count: int
    kept_count: int
    resumed_count: int
    taken_count: int
    made_count: int
    quarantined: Mapping[str, int]
    truncated_prompt_count: int
    seconds: float


def generate_shards(work: GenerationWork, folder: Path) -> GenerationReport:
    """Brings a folder to exactly the pictures of the plan, judged by exactly the gate of the work.

    Shards that are there already are kept; one that a killed run left unfinished goes on at the batch it lost. Where
    rows moved to other shards, or the gate changed, finished pictures are taken over and only new rows are made.
    Shards made with other settings are replaced one by one, and those beyond the plan are removed.

    Raises:
        ValueError: If the generator's weights are not the ones the plan was made for.
        QuarantineError: If the gate refuses too large a share of the pictures.
        RuntimeError: If the generator fails (the message names the captions of the batch), or another process
            is generating into the folder.
        OSError: If the disk refuses. Whatever fails, finished batches are kept.
    """
    started = time.perf_counter()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder):
        done = _bring(work, folder)
    truncated = (read_description(folder) or work.description).truncated_prompt_count
    report = GenerationReport(
        image_count=len(work.plan),
        shard_count=len(work.description.shards),
        truncated_prompt_count=truncated,
        seconds=time.perf_counter() - started,
        **asdict(done),
    )
    _log(report, folder)
    return report


@dataclass
class _Done:
    """What was done so far."""

    kept_count: int = 0
    resumed_count: int = 0
    taken_count: int = 0
    made_count: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)


def _bring(work: GenerationWork, folder: Path) -> _Done:
    """Does the work in a folder that is held."""
    wanted = work.description
    is_complete = is_complete_set(folder, wanted)
    if not is_complete:
        warn_of_replacing(folder, wanted)
        announce(folder, wanted, read_gate(folder))
        judged_by = read_gate(folder)
        if judged_by != wanted.quality:
            judges = ShardJudges(work.gate, work.plan, folder)
            set_aside_misjudged(folder, wanted, judged_by, work.rows, judges, batch_size=work.batch_size)
            announce(folder, wanted, wanted.quality)
        set_aside_others(folder, wanted)
    missing = [] if is_complete else missing_shards(folder, wanted)
    tally = QuarantineTally(work.quality.max_quarantined, after=work.quality.limit_after, home=str(folder / QUARANTINE))
    _count_kept(folder, work, missing, tally)
    tally.check(is_final=not missing)
    done = _Done(kept_count=len(wanted.shards) - len(missing))
    if not is_complete:
        _make_shards(work, folder, missing, tally, done)
        tally.check(is_final=True)
        close_set(folder, wanted, tally)
    remove_extra(folder, wanted)
    done.quarantined = dict(tally.rows())
    return done


def _make_shards(
    work: GenerationWork, folder: Path, missing: Sequence[str], tally: QuarantineTally, done: _Done
) -> None:
    """Makes the missing shards, wherever the work's mapper does it; those of a sample after those of the one before."""
    # A copy without what was derived from it: a worker elsewhere derives its own.
    build_worker = partial(ShardWorker, replace(work), folder.absolute(), copy.deepcopy(tally))
    waves = (list(names) for _, names in groupby(missing, key=work.first_sample))
    results: Iterator[MadeShard]
    if work.map_jobs is None:
        results = map(build_worker(), missing)
    else:
        results = chain.from_iterable(work.map_jobs(build_worker, names) for names in waves)
    to_make = sum(map(work.count_rows, missing))
    with tqdm(total=len(work.plan), initial=len(work.plan) - to_make, unit="image", disable=None) as progress:
        for name, made in zip(missing, results, strict=True):
            done.resumed_count += made.is_resumed
            done.taken_count += made.taken_count
            done.made_count += made.made_count
            tally.merge(made.tally)
            tally.check()
            progress.update(work.count_rows(name))


def _count_kept(folder: Path, work: GenerationWork, missing: Sequence[str], tally: QuarantineTally) -> None:
    absent = set(missing)
    for name in work.description.shards:
        if name in absent:
            continue
        refused_count = probe_shard(shard_path(folder, name)).quarantined_count
        tally.add_accepted(work.count_rows(name) - refused_count)
        for facts in read_facts(quarantine_path(folder, name)) if refused_count else ():
            tally.add(facts["key"], Verdict(facts["reason"], facts["detail"]))


def _log(report: GenerationReport, folder: Path) -> None:
    made = report.shard_count - report.kept_count - report.resumed_count
    shards = f"{report.kept_count} kept, {report.resumed_count} resumed, {made} made"
    counts = (folder, report.image_count, report.shard_count, shards, report.made_count, report.taken_count)
    logger.info(
        "Generated set %s: %d pictures in %d shards (%s), %d generated and %d taken over in %.1f s.",
        *counts,
        report.seconds,
    )
    if report.quarantined:
        logger.warning("Quarantined pictures of %s, by reason: %s.", folder, dict(report.quarantined))
    if report.truncated_prompt_count:
        logger.warning("%d prompts were longer than the generator reads and were cut.", report.truncated_prompt_count)
