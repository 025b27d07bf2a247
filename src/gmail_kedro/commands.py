"""The `gmail-kedro` command: several Kedro runs in one process, finished sets, preflight, published captioners.

A plain ``kedro run`` does one run. What it cannot say is "these runs, one after the other, without paying
the start-up of the libraries each time", what is no run: "is this set whole?" (``set_commands``), "is everything here?"
(``preflight``), and taking over a published captioner.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gmail_kedro import set_commands
from gmail_kedro.preflight import command as preflight

DATA_PIPELINES = ["mini_world", "generation", "pairing"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="gmail-kedro", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="the whole of GMAIL on the mini world, and its baselines")
    compare = commands.add_parser("compare", help="runs of conf/base/experiments.yml on the stored pairs")
    compare.add_argument("runs", nargs="*", help="run ids; all of them when none is named")
    study = commands.add_parser("study", help="variants over several seeds, from conf/base/study.yml")
    study.add_argument("name", help="the study; runs that are done are not run again")
    study.add_argument("--seeds", default=None, help="comma-separated, to share the work between processes")
    for command in (demo, compare, study):
        command.add_argument("--env", default=None, help="the profile in conf/, as in kedro run --env")
    set_commands.add_parser(commands)
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
        if options.command == "study":
            run_study(options.name, options.seeds, options.env)
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


def run_experiments(names: Sequence[str], env: str | None) -> None:
    """Runs experiments one after the other: the pipelines that ``experiments.yml`` names, or ``experiment``.

    Args:
        names: Keys of ``runs`` in ``experiments.yml``; all when empty.
        env: The Kedro environment.

    Raises:
        ValueError: If a name is not there; lists those that are.
    """
    experiments = _read("experiments.yml")
    known, pipelines = experiments["runs"], experiments["pipelines"]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no run {unknown} in conf/base/experiments.yml. Known runs: {list(known)}.")
    for name in names or known:
        run_pipelines(pipelines.get(name, ["experiment"]), {"run_id": name} | _nest(known[name]), env)


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
