"""Studies of study.yml: variants over several seeds, and the table that compares them."""

import shutil
import sys

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import Project
from gmail_kedro.configuration.params_option import nest
from gmail_kedro.whole_files import atomic_write


def run_study(project: Project, name: str, seeds: str | None) -> None:
    """Runs a study: its generated set, every variant with every seed, then its table. What is done is not run again.

    Args:
        project: The project.
        name: A key of ``study.yml``.
        seeds: The seeds this process runs, comma-separated; all when None.

    Raises:
        ValueError: If there is no such study; lists those there are.
    """
    from gmail_kedro.reporting.study_tables import study_markdown, study_table

    studies = project.define("study")
    if name not in studies:
        raise ValueError(f"There is no study {name!r} in conf/base/study.yml. Known studies: {list(studies)}.")
    study = studies[name]
    reports = project.root / runs.REPORTS / "study" / name
    if not (project.root / "data/03_primary" / study["shared"]["set"] / "pairs.parquet").is_file():
        runs.run_pipelines(project, runs.DATA_PIPELINES, nest(study["shared"]))
    for seed in study["seeds"] if seeds is None else [int(seed) for seed in seeds.split(",")]:
        for variant, changes in study["variants"].items():
            # the last file that its pipelines write: what is there was run to the end
            if (reports / f"{variant}-{seed}" / study["done_when"]).is_file():
                continue
            run_id = f"study/{name}/{variant}-{seed}"
            if "models_of" in study:
                _take_over_models(project, f"study/{study['models_of']}/{variant}-{seed}", run_id)
            parameters = {"run_id": run_id, "run.seed": seed} | study["shared"] | changes
            runs.run_pipelines(project, study["pipelines"], nest(parameters))
    table = study_table(reports, list(study["variants"]), study["seeds"], baseline=study["baseline"])
    with atomic_write(reports / "table.csv") as partial:
        table.to_csv(partial, index=False)
    text = study_markdown(table, study["columns"], baseline=study["baseline"])
    with atomic_write(reports / "table.md") as partial:
        partial.write_text(text)
    sys.stdout.write(text)


def _take_over_models(project: Project, source: str, target: str) -> None:
    """Copies what another run trained, so that a study can measure it on other data without training it again.

    Raises:
        FileNotFoundError: If the other run is not there.
    """
    models = project.root / runs.MODELS
    if not (models / source).is_dir():
        raise FileNotFoundError(f"The models of {source!r} are not in {models}. Run that study first.")
    shutil.copytree(models / source, models / target, dirs_exist_ok=True)
