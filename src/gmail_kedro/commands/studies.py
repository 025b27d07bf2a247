"""``gmail-kedro study``: variants of study.yml over several seeds, and the table that compares them."""

import shutil
import sys
from typing import Any

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import MODELS, REPORTS, Project, choose
from gmail_kedro.configuration.params_option import nest
from gmail_kedro.whole_files import atomic_write


def run_study(project: Project, name: str, seeds: str | None) -> None:
    """Runs a study: its generated set, every variant with every seed, then its table. What is done is not run again.

    Args:
        project: The project.
        name: A key of ``study.yml``.
        seeds: The seeds that this process runs, comma-separated, so that several can share a study; all when None.

    Raises:
        ParameterError: If there is no such study, or a variant is like no run of the profile.
    """
    from gmail_kedro.reporting.study_tables import study_markdown, study_table

    study = choose(project, "study", name)
    rows = study_rows(project, name)  # of all variants before the first is run: a wrong name costs no hours
    if not runs.has_pairs(project, study["shared"]["set"]):
        runs.run_pipelines(project, runs.DATA_PIPELINES, nest(study["shared"]))
    for seed in study["seeds"] if seeds is None else [int(seed) for seed in seeds.split(",")]:
        for variant, row in rows.items():
            run_id = f"study/{name}/{variant}-{seed}"
            if runs.is_done(project, run_id, row):
                continue
            if "models_of" in study:
                _take_over_models(project, f"study/{study['models_of']}/{variant}-{seed}", run_id)
            runs.run_to_receipt(project, run_id, row, name=variant, seed=seed)
    # The table is of all seeds: what another process has not run yet is left out, and counted.
    reports = project.root / REPORTS / "study" / name
    table = study_table(reports, list(rows), study["seeds"], baseline=study["baseline"])
    with atomic_write(reports / "table.csv") as partial:
        table.to_csv(partial, index=False)
    text = study_markdown(table, study["columns"], baseline=study["baseline"])
    with atomic_write(reports / "table.md") as partial:
        partial.write_text(text)
    sys.stdout.write(text)


def study_rows(project: Project, name: str) -> dict[str, dict[str, Any]]:
    """Returns by variant what its runs are, as a row of ``experiments.yml`` would say it.

    Raises:
        ParameterError: As ``run_study``.
    """
    study = choose(project, "study", name)
    # A study says what all its variants run, whatever the runs that they are like would run besides.
    last = {"pipelines": study["pipelines"]}
    variants = {variant: runs.resolve(project, changes) for variant, changes in study["variants"].items()}
    return {variant: study["shared"] | row | last for variant, row in variants.items()}


def _take_over_models(project: Project, source: str, target: str) -> None:
    """Copies what another run trained, so that a study can measure it on other data without training it again.

    Raises:
        FileNotFoundError: If the other run is not there.
    """
    models = project.root / MODELS
    if not (models / source).is_dir():
        raise FileNotFoundError(f"The models of {source!r} are not in {models}. Run that study first.")
    shutil.copytree(models / source, models / target, dirs_exist_ok=True)
