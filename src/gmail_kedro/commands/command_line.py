"""The `gmail-kedro` command: named runs, whole tables and studies, finished sets, preflight, published captioners.

A plain ``kedro run`` does one run. What it cannot say is "these runs, one after the other, without paying the start-up
of the libraries each time" (``runs``, ``tables``, ``studies``), what is no run: "is this set whole?" (``sets``), "is
everything here?" (``preflight``), and taking over a published captioner.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gmail_kedro.code_lists import write_code_lists
from gmail_kedro.commands import runs, sets, studies, tables
from gmail_kedro.commands.project import Project, find_root
from gmail_kedro.configuration.settings_text import nest, parse_settings
from gmail_kedro.preflight import command as preflight
from gmail_kedro.redaction import redact

CODE = "data/code"
Act = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.act(options) or 0
    except Exception as error:
        logging.getLogger(__name__).error("%s: %s", type(error).__name__, redact(str(error)))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gmail-kedro", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    _add(commands, "demo", _demo, "the whole of GMAIL on the mini world, and its baselines")
    compare = _add(commands, "compare", _compare, "runs of experiments.yml on the stored pairs")
    compare.add_argument("runs", nargs="*", help="run ids; all of them when none is named")
    run = _add(commands, "run", _run, "one cell of the reproduction: a run of experiments.yml and a seed")
    run.add_argument("name", help="the run; it becomes repro/NAME-SEED")
    run.add_argument("--seed", type=int, default=0, help="its training seed")
    table = _add(commands, "table", _table, "all that tables need: sets, pairs, runs; what is done is not run again")
    table.add_argument("tables", type=int, nargs="*", metavar="N", help="their numbers; all when none is given")
    table.add_argument("--dry-run", action="store_true", help="only list the commands, in an order to run them in")
    study = _add(commands, "study", _study, "variants over several seeds, from conf/base/study.yml")
    study.add_argument("name", help="the study; runs that are done are not run again")
    study.add_argument("--seeds", default=None, help="comma-separated, to share the work between processes")
    _add(commands, "links", _links, "where MLflow compares the runs of each table of the reproduction")
    _add(commands, "import-runs", _import_runs, "bring into MLflow the records of runs that could not be written to it")
    commands.add_parser("code", help="what code each stage of dvc.yaml hangs on: data/code").set_defaults(act=_code)
    sets.add_parser(commands).set_defaults(act=_set)
    preflight.add_parser(commands).set_defaults(act=_preflight)
    _add_convert(commands)
    return parser


def _add(commands: Any, name: str, act: Act, words: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words)
    command.add_argument("--env", default=None, help="the profile in conf/, as in kedro run --env")
    command.set_defaults(act=act)
    return command


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser("convert", help="a published captioner as a folder for downstream.pretrained")
    convert.add_argument("kind", choices=["clipcap"], help="whose layout the file has")
    convert.add_argument("file", type=Path, help="the checkpoint")
    convert.add_argument("folder", type=Path, help="where the captioner goes")
    convert.add_argument("--encoder", required=True, help="the encoder it was trained with, by its zoo name")
    convert.add_argument("--normalize", choices=["yes", "no"], help="on unit embeddings? default: as published")
    convert.add_argument("--language-model", default="gpt2", help="the language model it was trained with")
    convert.add_argument("--language-model-path", default=None, help="a local folder of its weights")
    convert.set_defaults(act=_convert)


def _project(options: argparse.Namespace) -> Project:
    given = nest(parse_settings(getattr(options, "params", "")))
    return Project(find_root(), getattr(options, "env", None), given)


def _demo(options: argparse.Namespace) -> None:
    project = _project(options)
    runs.run_pipelines(project, runs.DATA_PIPELINES, {})
    runs.run_experiments(project, project.define("experiments")["demo"])


def _compare(options: argparse.Namespace) -> None:
    runs.run_experiments(_project(options), options.runs)


def _run(options: argparse.Namespace) -> None:
    runs.run_cell(_project(options), options.name, options.seed)


def _table(options: argparse.Namespace) -> None:
    tables.run_tables(_project(options), options.tables, dry_run=options.dry_run)


def _study(options: argparse.Namespace) -> None:
    studies.run_study(_project(options), options.name, options.seeds)


def _code(_: argparse.Namespace) -> None:
    root = find_root()
    write_code_lists(root / "src/gmail_kedro", root / CODE)


def _set(options: argparse.Namespace) -> int:
    return options.look(_project(options), options)


def _preflight(options: argparse.Namespace) -> int:
    project = _project(options)
    titles = {number: table["title"] for number, table in project.define("tables")["tables"].items()}
    return preflight.run_preflight(project.root, project.group, titles, options)


def _links(options: argparse.Namespace) -> None:
    from gmail_kedro.hooks.tracking_hooks import EXPERIMENT
    from gmail_kedro.tracking.table_links import project_links

    project = _project(options)
    definitions = project.define("tables")["tables"]
    sys.stdout.write(project_links(project.root, EXPERIMENT, definitions, reproduction=project.reproduction))


def _import_runs(options: argparse.Namespace) -> int:
    from gmail_kedro.commands.records import import_runs

    return import_runs(_project(options))


def _convert(options: argparse.Namespace) -> None:
    from gmail_kedro.models.captioners.clipcap_checkpoint import convert_clipcap

    convert_clipcap(
        options.file,
        options.folder,
        encoder=options.encoder,
        normalize=None if options.normalize is None else options.normalize == "yes",
        language_model=options.language_model,
        language_model_path=options.language_model_path,
    )
    sys.stdout.write(f"The captioner is in {options.folder}. Use it: --params=downstream.pretrained={options.folder}\n")


if __name__ == "__main__":
    sys.exit(main())
