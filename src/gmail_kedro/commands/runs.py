"""Named runs of experiments.yml and declared sets of sets.yml: what each changes of the parameters, and running them.

Several of them go in one process, because the libraries take longer to start than a small run takes.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gmail_kedro.commands.project import Project
from gmail_kedro.configuration.params_option import nest, parse_settings
from gmail_kedro.preflight.requirements import FILE, read_requirements
from gmail_kedro.preflight.requirements import MODELS as MODEL_KINDS
from gmail_kedro.redaction import redact_values
from gmail_kedro.reporting.report_files import DamagedReportError, read_report
from gmail_kedro.whole_files import known_write

logger = logging.getLogger(__name__)

DATA_PIPELINES = ["mini_world", "generation", "pairing"]
REPORTS, MODELS, SETS = Path("data/08_reporting"), Path("data/06_models"), Path("data/02_intermediate")
RECEIPT = "run.json"
NO_PARAMETERS = ("pipelines", "starts_from")
OF_A_SET = ("generators",)
OF_A_RUN = tuple(kind for kind in MODEL_KINDS if kind not in OF_A_SET)


def find_run(project: Project, name: str) -> dict[str, Any]:
    """Returns a run as its profile defines it: what it changes of the parameters, its set, where it starts from.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    known = project.define("experiments")["runs"]
    if name not in known:
        raise ValueError(f"The profile {project.profile} has no run {name!r} (experiments.yml). Known: {list(known)}.")
    row = dict(known[name])
    return find_run(project, row.pop("like")) | row if "like" in row else row


def run_experiments(project: Project, names: Sequence[str]) -> None:
    """Runs experiments one after the other, each under its own name.

    Raises:
        ValueError: If a name is not there; lists those that are.
        FileNotFoundError: If a run goes on from another one that is not there.
    """
    rows = {name: find_run(project, name) for name in names or project.define("experiments")["runs"]}
    for name, row in rows.items():
        start = row.get("starts_from")
        _run_row(project, row, run_id=name, start=start, first=f"gmail-kedro compare {start}{project.option}")


def run_cell(project: Project, name: str, seed: int) -> None:
    """Runs one cell of the reproduction, ``repro/NAME-SEED``; its ``run.json`` is written last and says it is whole.

    Args:
        project: The project; a profile with its own ``reproduction`` in ``globals.yml`` has its runs there.
        name: A key of ``runs`` in ``experiments.yml``.
        seed: The training seed.

    Raises:
        ValueError: If there is no such run; lists those there are.
        FileNotFoundError: If the run goes on from another one that is not there; says how to run that.
    """
    from gmail_kedro.tracking.run_record import git_state

    row, run_id = find_run(project, name), cell_id(project, name, seed)
    receipt = project.root / REPORTS / run_id / RECEIPT
    receipt.unlink(missing_ok=True)  # first: a run that dies must not be taken for the one before it
    start, first = None, ""
    if "starts_from" in row:
        start, first = cell_id(project, row["starts_from"], seed), run_command(project, row["starts_from"], seed)
    pipelines = _run_row(project, {"run.seed": seed} | row, run_id=run_id, start=start, first=first)
    facts = {"run_id": run_id, "name": name, "seed": seed, "row": row, "env": project.env, "pipelines": pipelines}
    facts |= _set_facts(project, row.get("set", project.default_set)) | git_state(project.root)
    with known_write(receipt) as partial:
        partial.write_text(json.dumps(redact_values(facts), indent=1) + "\n")


def cell_id(project: Project, name: str, seed: int) -> str:
    """Returns the run id of a cell of the reproduction."""
    return f"{project.reproduction}/{name}-{seed}"


def run_command(project: Project, name: str, seed: int) -> str:
    """Returns the command that runs a cell of the reproduction."""
    return f"gmail-kedro run {name} --seed {seed}{project.option}"


def is_run(project: Project, name: str, seed: int) -> bool:
    """Says whether a cell is whole and was run as ``experiments.yml`` defines it now."""
    receipt = project.root / REPORTS / cell_id(project, name, seed) / RECEIPT
    try:
        facts = read_report(receipt)
    except DamagedReportError as reason:
        logger.warning("Not counted as run: %s.", reason)
        return False
    return facts is not None and facts.get("row") == redact_values(find_run(project, name))


def find_set(project: Project, name: str) -> dict[str, Any]:
    """Returns what a set changes, by names with dots: its name, its own settings, and where its weights lie.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    declared = project.define("sets")["sets"]
    if name not in declared:
        raise ValueError(f"The profile {project.profile} has no set {name!r} (sets.yml). Known: {list(declared)}.")
    params = declared[name].get("params") or {}
    settings = parse_settings(params) if isinstance(params, str) else params
    return {"set": name} | settings | find_paths(project, settings, OF_A_SET)


def make_set(project: Project, name: str) -> None:
    """Makes a declared set, or goes on with one that is not whole.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    run_pipelines(project, ["generation"], nest(find_set(project, name)))


def make_command(project: Project, name: str) -> str:
    """Returns the command that makes a declared set."""
    return f"gmail-kedro set make {name}{project.option}"


def run_pipelines(project: Project, names: Sequence[str], parameters: dict[str, Any]) -> None:
    """Runs pipelines in one Kedro session, which is one MLflow run."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project.root)  # in this process: each start of the libraries costs more than a small run
    with KedroSession.create(project_path=project.root, env=project.env, runtime_params=parameters) as session:
        session.run(pipeline_names=list(names))  # type: ignore[call-arg]


def _run_row(project: Project, row: Mapping[str, Any], *, run_id: str, start: str | None, first: str) -> list[str]:
    """Runs a row of ``experiments.yml``; returns its pipelines.

    Raises:
        FileNotFoundError: If the captioner that it goes on from is not there; says how to train it.
    """
    changes = {key: value for key, value in row.items() if key not in NO_PARAMETERS}
    if start is not None:
        captioner = project.root / MODELS / start / "captioner"
        if not captioner.is_dir():
            raise FileNotFoundError(f"{run_id} goes on from a captioner that is not there. First: {first}")
        changes["downstream.start_from"] = str(captioner)
    changes |= find_paths(project, changes, OF_A_RUN)
    pipelines = row.get("pipelines", ["experiment"])
    run_pipelines(project, pipelines, {"run_id": run_id} | nest(changes))
    return pipelines


def find_paths(project: Project, changes: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, str]:
    """Returns the parameters that point at weights in the folder of weights, where the run names no path itself.

    Args:
        project: The project; a profile without requirements has no such folder.
        changes: What is changed of the parameters, by their names with dots.
        kinds: Keys of ``zoo.inventory.KINDS``.

    Raises:
        UnknownModelError: If the zoo does not know a model that lies there by name.
    """
    from gmail_kedro.models.inventory import KINDS, find_weights
    from gmail_kedro.preflight.checks import weights_in_folder

    file = project.root / "conf" / project.profile / FILE
    if not file.is_file():
        return {}
    requirements = read_requirements(file)
    if not (project.root / requirements.weights_folder).is_dir():
        return {}
    group = cache(Project(project.root, project.env, nest(changes)).group)
    paths = {}
    for kind in kinds:
        (name, model), (_, path) = (
            setting.split(".") for setting in (KINDS[kind].name_setting, KINDS[kind].path_setting)
        )
        places = weights_in_folder(requirements, group(name)[model], project.root)
        found = find_weights(kind, group(name)[model], places) if places and group(name)[path] is None else None
        if found is not None and found.path in places:
            paths[KINDS[kind].path_setting] = str(found.path)
    return paths


def _set_facts(project: Project, name: str) -> dict[str, str]:
    """Returns what a generated set says about itself: which set it is, and what made it."""
    from gmail_kedro.generated_sets.set_folder import SHARD_FOLDER
    from gmail_kedro.generated_sets.stored_images import read_description

    made = read_description(project.root / SETS / name / SHARD_FOLDER)
    if made is None:
        raise FileNotFoundError(f"The set {name!r} is not finished. Make it: kedro run --pipeline=generation")
    return {"set": name, "generated_set": made.fingerprint, "generator": made.settings["generator"]}
