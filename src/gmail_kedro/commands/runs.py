"""Named runs of experiments.yml and declared sets of sets.yml: what each changes of the parameters, and running them.

A row says what a run is, and its receipt that it was run to the end as that row: ``is_done`` holds the two against each
other, for tables and studies alike. What code, data and weights of it changed since then only DVC knows (dvc.yaml).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from gmail_kedro.commands.project import MODELS, PAIRS, REPORTS, SETS, Project, choose
from gmail_kedro.configuration.params_option import nest, parse_settings
from gmail_kedro.preflight.requirements import FILE, read_requirements
from gmail_kedro.preflight.requirements import MODELS as MODEL_KINDS
from gmail_kedro.redaction import redact_values
from gmail_kedro.reporting.finished_runs import RECEIPT, read_receipt
from gmail_kedro.reporting.report_files import DamagedReportError
from gmail_kedro.whole_files import known_write

logger = logging.getLogger(__name__)

DATA_PIPELINES = ["mini_world", "generation", "pairing"]
# What a row says beside parameters. Weights of a generator are the set's: a run reads images that are made.
NO_PARAMETERS = ("pipelines", "starts_from")
OF_A_SET = ("generators",)
OF_A_RUN = tuple(kind for kind in MODEL_KINDS if kind not in OF_A_SET)


def find_run(project: Project, name: str) -> dict[str, Any]:
    """Returns a run as its profile defines it: what it changes of the parameters, its set, where it starts from.

    Raises:
        ParameterError: If there is none of that name; says which is close.
    """
    return resolve(project, choose(project, "run", name))


def resolve(project: Project, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with all that the run it is ``like`` says, but for what the row says itself.

    Raises:
        ParameterError: If it is like no run of the profile.
    """
    own = dict(row)
    return find_run(project, own.pop("like")) | own if "like" in own else own


def run_experiments(project: Project, names: Sequence[str]) -> None:
    """Runs experiments one after the other, each under its own name.

    Raises:
        ParameterError: If a name is not there; says which is close.
        FileNotFoundError: If a run goes on from another one that is not there.
    """
    # All of them are found first, and all run again: who compares wants them of one code and one machine.
    rows = {name: find_run(project, name) for name in names or project.define("experiments")["runs"]}
    for name, row in rows.items():
        start = row.get("starts_from")
        _run_row(project, row, run_id=name, start=start, first=f"gmail-kedro compare {start}{project.option}")


def run_cell(project: Project, name: str, seed: int) -> None:
    """Runs one cell of the reproduction, ``repro/NAME-SEED``, or where the profile's ``globals.yml`` has its own.

    Raises:
        ParameterError: If there is no such run; says which is close.
        FileNotFoundError: As ``run_to_receipt``.
    """
    run_to_receipt(project, cell_id(project, name, seed), find_run(project, name), name=name, seed=seed)


def run_to_receipt(project: Project, run_id: str, row: Mapping[str, Any], *, name: str, seed: int) -> None:
    """Runs a row with a seed; its ``run.json`` is written last, says what was run and so that it is whole.

    Raises:
        FileNotFoundError: If the run goes on from another one that is not there; says how to run that.
    """
    from gmail_kedro.tracking.run_record import git_state

    receipt = project.root / REPORTS / run_id / RECEIPT
    receipt.unlink(missing_ok=True)  # first: a run that dies must not be taken for the one before it
    start, first = None, ""
    if "starts_from" in row:
        # of the same seed: with the base of another one, two things would differ between the rows of a table
        start, first = cell_id(project, row["starts_from"], seed), run_command(project, row["starts_from"], seed)
    pipelines = _run_row(project, {"run.seed": seed, **row}, run_id=run_id, start=start, first=first)
    facts = {"run_id": run_id, "name": name, "seed": seed, "row": row, "env": project.env, "pipelines": pipelines}
    # What the row does not say and yet decides: the set's own hash, and the commit with its changes.
    facts |= _set_facts(project, row.get("set", project.default_set)) | git_state(project.root)
    with known_write(receipt) as partial:
        partial.write_text(json.dumps(redact_values(facts), indent=1) + "\n")


def is_done(project: Project, run_id: str, row: Mapping[str, Any]) -> bool:
    """Says whether a run is whole and was run as its row is now."""
    try:
        facts = read_receipt(project.root / REPORTS / run_id)
    except DamagedReportError as reason:
        logger.warning("Not counted as run: %s.", reason)
        return False
    return facts is not None and facts.get("row") == redact_values(row)  # secrets are not in a receipt


def cell_id(project: Project, name: str, seed: int) -> str:
    """Returns the run id of a cell of the reproduction."""
    return f"{project.reproduction}/{name}-{seed}"


def run_command(project: Project, name: str, seed: int) -> str:
    """Returns the command that runs a cell of the reproduction."""
    return f"gmail-kedro run {name} --seed {seed}{project.option}"


def has_pairs(project: Project, name: str) -> bool:
    """Says whether a set was made and paired; the pairs are the last that is written of it."""
    return (project.root / PAIRS / name / "pairs.parquet").is_file()


def find_set(project: Project, name: str) -> dict[str, Any]:
    """Returns what a set changes, by names with dots: its name, its own settings, and where its weights lie.

    Raises:
        ParameterError: If there is none of that name; says which is close.
    """
    params = choose(project, "set", name).get("params") or {}
    settings = parse_settings(params) if isinstance(params, str) else params
    return {"set": name} | settings | find_paths(project, settings, OF_A_SET)


def make_set(project: Project, name: str) -> None:
    """Makes a declared set, or goes on with one that is not whole.

    Raises:
        ParameterError: If there is none of that name; says which is close.
    """
    run_pipelines(project, ["generation"], nest(find_set(project, name)))


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
    """Returns the parameters that point at weights in the profile's folder of weights, where the run names no path.

    Args:
        project: The project; a profile without requirements has no such folder.
        changes: What is changed of the parameters, by their names with dots.
        kinds: Keys of ``models.inventory.KINDS``.

    Raises:
        UnknownModelError: If a setting names a model that ``models`` does not know.
    """
    from gmail_kedro.models.inventory import KINDS, find_weights
    from gmail_kedro.preflight.machine import weights_in_folder

    file = project.root / "conf" / project.profile / FILE
    if not file.is_file():
        return {}
    requirements = read_requirements(file)
    if not (project.root / requirements.weights_folder).is_dir():
        return {}
    # With the changes in place: a row that chooses another encoder needs that one's weights.
    group = cache(Project(project.root, project.env, nest(changes)).group)
    paths = {}
    for kind in kinds:
        (name, model), (_, path) = (
            setting.split(".") for setting in (KINDS[kind].name_setting, KINDS[kind].path_setting)
        )
        places = weights_in_folder(requirements, group(name)[model], project.root)
        found = find_weights(kind, group(name)[model], places) if places and group(name)[path] is None else None
        # Weights in the package or in the hub's cache are found by the models themselves; a path would only pin them.
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
