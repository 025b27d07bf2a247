"""``gmail-kedro table``: everything that tables of the reproduction need, in the order in which it can be run.

The commands that it lists are those of the stages of ``dvc.yaml``, for any profile: corpora that a pipeline makes,
generated sets and their pairs, the runs (after those that they go on from), and the tables themselves.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import SETS, Project
from gmail_kedro.commands.runs import find_set, make_set
from gmail_kedro.preflight.requirements import FILE, read_requirements
from gmail_kedro.reporting.table_definitions import Table, read_tables

logger = logging.getLogger(__name__)
Cell = tuple[str, int]  # a run's name and its seed


@dataclass(frozen=True)
class Step:
    """One command."""

    command: str  # as a person types it
    about: str  # what it is for
    is_done: Callable[[], bool]  # whether its results are there; asked when its turn comes
    start: Callable[[], None]  # runs it in this process


def run_tables(project: Project, numbers: Sequence[int], *, dry_run: bool) -> None:
    """Runs what tables need and is not there, and fills them; or only lists the commands.

    Raises:
        ValueError: If a number is no table of the profile, or a table names a run or a set that is not there.
    """
    tables = _choose(project, numbers)
    steps = plan_tables(project, tables)
    if dry_run:
        sys.stdout.write(list_steps(tables, steps))
        return
    for step in steps:
        if step.is_done():
            logger.info("Done already: %s", step.command)
        else:
            step.start()


def list_steps(tables: Sequence[Table], steps: Sequence[Step]) -> str:
    """Returns the commands as lines of a shell script."""
    lines = [f"# Table {table.number}: {table.title}" for table in tables]
    lines += [f"{step.command}  # {'done; ' if step.is_done() else ''}{step.about}" for step in steps]
    return "\n".join(lines) + "\n"


def plan_tables(project: Project, tables: Sequence[Table]) -> list[Step]:
    """Returns every command that tables need, each after those that it waits for.

    Raises:
        ValueError: If a table names a run, or a run a set, that the profile does not have.
    """
    cells = _cells(project, tables)
    # Rows of several tables are one run, and runs of several rows one set: each is made once.
    set_of = {name: runs.find_run(project, name).get("set", project.default_set) for name, _ in cells}
    run_steps = [_run_step(project, name, seed, about) for (name, seed), about in cells.items()]
    return [*_corpus_steps(project), *_set_steps(project, dict.fromkeys(set_of.values())), *run_steps, _last(project)]


def _choose(project: Project, numbers: Sequence[int]) -> list[Table]:
    tables = {table.number: table for table in read_tables(project.define("tables"))}
    if unknown := [number for number in numbers if number not in tables]:
        raise ValueError(f"The profile {project.profile} has no table {unknown}. Known: {list(tables)}.")
    return [tables[number] for number in numbers or tables]


def _cells(project: Project, tables: Sequence[Table]) -> dict[Cell, str]:
    """Returns the runs of tables, those that others go on from first, each with the rows that it is."""
    cells: dict[Cell, list[str]] = {}
    seeds = project.define("seeds")["seeds"]
    for table in tables:
        for row in table.rows.values():
            for seed in () if row.blocked else (row.seeds or seeds):
                start = runs.find_run(project, row.run).get("starts_from")
                if start:  # a dict keeps its order: what is gone on from comes before, whoever names it first
                    cells.setdefault((start, seed), [])
                cells.setdefault((row.run, seed), []).append(f"table {table.number}, {row.name}")
    return {cell: "; ".join(rows) or "others go on from it" for cell, rows in cells.items()}


def _corpus_steps(project: Project) -> list[Step]:
    corpora = read_requirements(project.root / "conf" / project.profile / FILE).corpora
    return [
        Step(
            command=f"kedro run{project.option} --pipeline={corpus.made_by}",
            about=f"the corpus {name}",
            is_done=partial(_all_there, project, corpus.files),
            start=partial(runs.run_pipelines, project, [corpus.made_by], {}),
        )
        for name, corpus in corpora.items()
        if corpus.made_by  # others are brought: preflight says which
    ]


def _set_steps(project: Project, names: Iterable[str]) -> list[Step]:
    """Returns for every set its generation, then its pairing."""
    steps = []
    for name in names:
        find_set(project, name)  # refuses one that is not declared, before anything is run
        making = Step(
            command=f"gmail-kedro set make {name}{project.option}",
            about=f"the set {name}",
            is_done=partial(_all_there, project, [f"{SETS}/{name}/card.json"]),  # which only a whole set has
            start=partial(make_set, project, name),
        )
        pairing = Step(
            command=f'kedro run{project.option} --pipeline=pairing --params="set={name}"',
            about=f"the set {name}",
            is_done=partial(runs.has_pairs, project, name),
            start=partial(runs.run_pipelines, project, ["pairing"], {"set": name}),
        )
        steps += [making, pairing]
    return steps


def _run_step(project: Project, name: str, seed: int, about: str) -> Step:
    row = runs.find_run(project, name)
    start = row.get("starts_from")
    return Step(
        command=runs.run_command(project, name, seed),
        about=about + (f"; after {start}" if start else ""),
        is_done=partial(runs.is_done, project, runs.cell_id(project, name, seed), row),
        start=partial(runs.run_cell, project, name, seed),
    )


def _last(project: Project) -> Step:
    return Step(
        command=f"kedro run{project.option} --pipeline=tables",
        about="all tables, from what was run",
        is_done=lambda: False,  # it takes a second, and follows whatever was run
        start=partial(runs.run_pipelines, project, ["tables"], {}),
    )


def _all_there(project: Project, patterns: Iterable[str]) -> bool:
    return all(any(project.root.glob(pattern)) for pattern in patterns)
