"""The `gmail-kedro` command: several Kedro runs in one process, finished sets, preflight, published captioners.

A plain ``kedro run`` does one run. What it cannot say is "these runs, one after the other, without paying
the start-up of the libraries each time", what is no run: "is this set whole?" (``set_commands``), "is everything here?"
(``preflight``), and taking over a published captioner.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmail_kedro import set_commands
from gmail_kedro.preflight import command as preflight

DATA_PIPELINES = ["mini_world", "generation", "pairing"]
REPRODUCTION, RECEIPT = "repro", "run.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="gmail-kedro", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="the whole of GMAIL on the mini world, and its baselines")
    compare = commands.add_parser("compare", help="runs of conf/base/experiments.yml on the stored pairs")
    compare.add_argument("runs", nargs="*", help="run ids; all of them when none is named")
    run = commands.add_parser("run", help="one cell of the reproduction: a run of conf/base/experiments.yml and a seed")
    run.add_argument("name", help="the run; it becomes repro/NAME-SEED")
    run.add_argument("--seed", type=int, default=0, help="its training seed")
    study = commands.add_parser("study", help="variants over several seeds, from conf/base/study.yml")
    study.add_argument("name", help="the study; runs that are done are not run again")
    study.add_argument("--seeds", default=None, help="comma-separated, to share the work between processes")
    for command in (demo, compare, run, study):
        command.add_argument("--env", default=None, help="the profile in conf/, as in kedro run --env")
    set_commands.add_parser(commands)
    commands.add_parser("links", help="where MLflow compares the runs of each table of the reproduction")
    preflight.add_parser(commands)
    convert = commands.add_parser("convert", help="a published captioner as a folder for downstream.pretrained")
    convert.add_argument("kind", choices=["clipcap"], help="whose layout the file has")
    convert.add_argument("file", type=Path, help="the checkpoint")
    convert.add_argument("folder", type=Path, help="where the captioner goes")
    convert.add_argument("--encoder", required=True, help="the encoder it was trained with, by its zoo name")
    convert.add_argument("--normalize", choices=["yes", "no"], help="on unit embeddings? default: as published")
    convert.add_argument("--language-model", default="gpt2", help="the language model it was trained with")
    convert.add_argument("--language-model-path", default=None, help="a local folder of its weights")
    options = parser.parse_args(arguments)
    try:
        if options.command in ("set", "preflight"):
            given = _nest(_parse_parameters(getattr(options, "params", "")))
            project = set_commands.Project(_project_root(), getattr(options, "env", None), given)
            if options.command == "set":
                return options.act(project, options)
            return preflight.run_preflight(project.root, project.group, options)
        if options.command == "run":
            run_cell(options.name, options.seed, options.env)
        elif options.command == "study":
            run_study(options.name, options.seeds, options.env)
        elif options.command == "links":
            show_links()
        elif options.command == "convert":
            convert_captioner(options)
        elif options.command == "demo":
            run_pipelines(DATA_PIPELINES, {}, options.env)
            run_experiments(_read("experiments.yml")["demo"], options.env)
        else:
            run_experiments(options.runs, options.env)
    except Exception as error:
        logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
        return 1
    return 0


def convert_captioner(options: argparse.Namespace) -> None:
    """Turns a published ClipCap checkpoint into a captioner's folder.

    Args:
        options: What the command line says.
    """
    from gmail_kedro.zoo.clipcap_checkpoint import convert_clipcap

    convert_clipcap(
        options.file,
        options.folder,
        encoder=options.encoder,
        normalize=None if options.normalize is None else options.normalize == "yes",
        language_model=options.language_model,
        language_model_path=options.language_model_path,
    )
    sys.stdout.write(f"The captioner is in {options.folder}. Use it: --params=downstream.pretrained={options.folder}\n")


def show_links() -> None:
    """Writes the links that compare the runs of a table in MLflow."""
    from gmail_kedro.hooks import EXPERIMENT
    from gmail_kedro.matrix_runs import project_links

    sys.stdout.write(project_links(_project_root(), EXPERIMENT))


def run_experiments(names: Sequence[str], env: str | None) -> None:
    """Runs experiments one after the other, each under its own name.

    Args:
        names: Keys of ``runs`` in ``experiments.yml``; all when empty.
        env: The Kedro environment.

    Raises:
        ValueError: If a name is not there; lists those that are.
        FileNotFoundError: If a run goes on from another one that is not there.
    """
    known = _read("experiments.yml")["runs"]
    rows = {name: _row(name) for name in names or known}
    for name, row in rows.items():
        run_pipelines(*_plan(row, run_id=name, start=row.get("starts_from")), env)


def run_cell(name: str, seed: int, env: str | None) -> None:
    """Runs one cell of the reproduction, ``repro/NAME-SEED``; its ``run.json`` is written last and says it is whole.

    Args:
        name: A key of ``runs`` in ``experiments.yml``.
        seed: The training seed.
        env: The Kedro environment.

    Raises:
        ValueError: If there is no such run; lists those there are.
        FileNotFoundError: If the run goes on from another one that is not there; says how to run that.
    """
    from gmail_kedro.tracking import git_state

    row, run_id = _row(name), f"{REPRODUCTION}/{name}-{seed}"
    start = f"{REPRODUCTION}/{row['starts_from']}-{seed}" if "starts_from" in row else None
    receipt = _project_root() / "data/08_reporting" / run_id / RECEIPT
    receipt.unlink(missing_ok=True)
    pipelines, parameters = _plan({"run.seed": seed} | row, run_id=run_id, start=start)
    run_pipelines(pipelines, parameters, env)
    facts = {"run_id": run_id, "name": name, "seed": seed, "row": row, "env": env, "pipelines": pipelines}
    facts |= _set_facts(row.get("set", _read("globals.yml")["set"])) | git_state(_project_root())
    unfinished = receipt.with_name(f"{RECEIPT}.unfinished")
    unfinished.write_text(json.dumps(facts, indent=1) + "\n")
    unfinished.replace(receipt)


def _set_facts(name: str) -> dict[str, str]:
    """Returns what a generated set says about itself: which set it is, and what made it."""
    facts = json.loads((_project_root() / "data/02_intermediate" / name / "shards/set.json").read_text())
    return {"set": name, "generated_set": facts["fingerprint"], "generator": facts["settings"]["generator"]}


def _row(name: str) -> dict[str, Any]:
    """Returns a row of ``runs`` in ``experiments.yml``.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    known = _read("experiments.yml")["runs"]
    if name not in known:
        raise ValueError(f"There is no run {name!r} in conf/base/experiments.yml. Known runs: {list(known)}.")
    return known[name]


def _plan(row: Mapping[str, Any], *, run_id: str, start: str | None) -> tuple[list[str], dict[str, Any]]:
    """Returns the pipelines of a row and their parameters.

    Args:
        row: Of ``experiments.yml``.
        run_id: What the run is called.
        start: Id of the run whose captioner it goes on from, or None.

    Raises:
        FileNotFoundError: If that captioner is not there; says how to train it.
    """
    changes = {key: value for key, value in row.items() if key not in ("pipelines", "starts_from")}
    if start is not None:
        captioner = _project_root() / "data/06_models" / start / "captioner"
        if not captioner.is_dir():
            name, _, seed = start.removeprefix(f"{REPRODUCTION}/").rpartition("-")
            first = f"run {name} --seed {seed}" if start.startswith(REPRODUCTION) else f"compare {start}"
            raise FileNotFoundError(f"{run_id} goes on from a captioner that is not there. First: gmail-kedro {first}")
        changes["downstream.start_from"] = str(captioner)
    return row.get("pipelines", ["experiment"]), {"run_id": run_id} | _nest(changes)


def run_study(name: str, seeds: str | None, env: str | None) -> None:
    """Runs a study: its generated set, every variant with every seed, then its table. What is done is not run again.

    Args:
        name: A key of ``study.yml``.
        seeds: The seeds this process runs, comma-separated; all when None.
        env: The Kedro environment.

    Raises:
        ValueError: If there is no such study; lists those there are.
    """
    from gmail_kedro.pipelines.reporting.study import study_markdown, study_table

    studies = _read("study.yml")
    if name not in studies:
        raise ValueError(f"There is no study {name!r} in conf/base/study.yml. Known studies: {list(studies)}.")
    study = studies[name]
    reports = _project_root() / "data/08_reporting/study" / name
    if not (_project_root() / "data/03_primary" / study["shared"]["set"] / "pairs.parquet").is_file():
        run_pipelines(DATA_PIPELINES, _nest(study["shared"]), env)
    for seed in study["seeds"] if seeds is None else [int(seed) for seed in seeds.split(",")]:
        for variant, changes in study["variants"].items():
            if (reports / f"{variant}-{seed}" / study["done_when"]).is_file():
                continue
            run_id = f"study/{name}/{variant}-{seed}"
            if "models_of" in study:
                _take_over_models(f"study/{study['models_of']}/{variant}-{seed}", run_id)
            parameters = {"run_id": run_id, "run.seed": seed} | study["shared"] | changes
            run_pipelines(study["pipelines"], _nest(parameters), env)
    table = study_table(reports, list(study["variants"]), study["seeds"], baseline=study["baseline"])
    table.to_csv(reports / "table.csv", index=False)
    text = study_markdown(table, study["columns"], baseline=study["baseline"])
    (reports / "table.md").write_text(text)
    sys.stdout.write(text)


def _take_over_models(source: str, target: str) -> None:
    """Copies what another run trained, so that a study can measure it on other data without training it again.

    Raises:
        FileNotFoundError: If the other run is not there.
    """
    models = _project_root() / "data/06_models"
    if not (models / source).is_dir():
        raise FileNotFoundError(f"The models of {source!r} are not in {models}. Run that study first.")
    shutil.copytree(models / source, models / target, dirs_exist_ok=True)


def run_pipelines(names: list[str], parameters: dict[str, Any], env: str | None) -> None:
    """Runs pipelines in one Kedro session, which is one MLflow run.

    Args:
        names: Registered pipelines; run as their union.
        parameters: Runtime parameters, nested.
        env: The Kedro environment.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    root = _project_root()
    bootstrap_project(root)
    with KedroSession.create(project_path=root, env=env, runtime_params=parameters) as session:
        session.run(pipeline_names=names)  # type: ignore[call-arg]


def _read(name: str) -> dict[str, Any]:
    """Returns a file of conf/base that Kedro does not read."""
    import yaml

    return yaml.safe_load((_project_root() / "conf/base" / name).read_text())


def _parse_parameters(text: str) -> dict[str, Any]:
    """Turns ``a.b=1,c=x`` into ``{"a.b": 1, "c": "x"}``.

    Raises:
        ValueError: If a part has no ``=``.
    """
    import yaml

    parts = [part.partition("=") for part in text.split(",") if part]
    if bad := [name for name, sign, _ in parts if not sign]:
        raise ValueError(f"--params must be name=value, with commas between. Got {bad[0]!r} instead.")
    return {name.strip(): yaml.safe_load(value) for name, _, value in parts}


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Turns ``{"alignment.lora_rank": 2}`` into ``{"alignment": {"lora_rank": 2}}``."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return nested


def _project_root() -> Path:
    """Returns the project's folder: the working directory or one of its parents.

    Raises:
        FileNotFoundError: If none of them holds a Kedro project.
    """
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd())
    if root is None:
        raise FileNotFoundError("No Kedro project here. Change into the folder that holds pyproject.toml and conf/.")
    return Path(root)


if __name__ == "__main__":
    sys.exit(main())
