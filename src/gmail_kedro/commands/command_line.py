"""`gmail-kedro`, and the same as `kedro gmail`: what kedro, dvc and mlflow cannot say.

A plain ``kedro run`` does one run. What it cannot say is "these runs, one after the other, without paying the start-up
of the libraries each time" (``run``, ``compare``, ``table``, ``study``, ``demo``), what is no run: "is this set whole?"
(``set``), "is everything here?" (``preflight``), and taking over a published captioner (``convert``).

Whatever a command needs is imported when it is given: ``--help`` must not wait for torch.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gmail_kedro.commands.project import env_option, find_root, open_project, params_option
from gmail_kedro.commands.sets import set_
from gmail_kedro.redaction import redact

CODE = "data/code"  # dvc.yaml's stages depend on the files there


class _Commands(click.Group):
    """Commands whose errors are a line and not a traceback, and whose result is the exit code."""

    def invoke(self, context: click.Context) -> Any:
        """Gives the command; click alone would end with 0 whatever it returns."""
        try:
            code = super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # Settings may hold a password or a token, and errors repeat what they were given.
            logging.getLogger(__name__).error("%s: %s", type(error).__name__, redact(str(error)))
            code = 1
        context.exit(code or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        gmail.main(None if arguments is None else list(arguments), prog_name="gmail-kedro")
    except SystemExit as end:  # so ends every command of click
        return end.code if isinstance(end.code, int) else 1
    return 0


@click.group(cls=_Commands)
def gmail() -> None:
    """Named runs, whole tables and studies, finished sets, preflight, published captioners."""


@gmail.command()
@env_option
def demo(env: str | None) -> None:
    """The whole of GMAIL on the mini world, and its baselines."""
    from gmail_kedro.commands import runs

    project = open_project(env)
    runs.run_pipelines(project, runs.DATA_PIPELINES, {})  # a whole set is left as it is, so twice costs little
    runs.run_experiments(project, project.define("experiments")["demo"])


@gmail.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
@env_option
def compare(names: tuple[str, ...], env: str | None) -> None:
    """Runs of experiments.yml on the stored pairs; all of them when none is named."""
    from gmail_kedro.commands import runs

    runs.run_experiments(open_project(env), names)


@gmail.command()
@click.argument("name")
@click.option("--seed", type=int, default=0, help="its training seed")
@env_option
def run(name: str, seed: int, env: str | None) -> None:
    """One cell of the reproduction: a run of experiments.yml and a seed; it becomes repro/NAME-SEED."""
    from gmail_kedro.commands import runs

    runs.run_cell(open_project(env), name, seed)


@gmail.command()
@click.argument("numbers", type=int, nargs=-1, metavar="[N]...")
@click.option("--dry-run", is_flag=True, help="only list the commands, in an order to run them in")
@env_option
def table(numbers: tuple[int, ...], dry_run: bool, env: str | None) -> None:
    """All that tables need: sets, pairs, runs; what is done is not run again. All tables when none is given."""
    from gmail_kedro.commands.table_steps import run_tables

    run_tables(open_project(env), numbers, dry_run=dry_run)


@gmail.command()
@click.argument("name")
@click.option("--seeds", default=None, help="comma-separated, to share the work between processes")
@env_option
def study(name: str, seeds: str | None, env: str | None) -> None:
    """Variants over several seeds, from conf/base/study.yml; runs that are done are not run again."""
    from gmail_kedro.commands.studies import run_study

    run_study(open_project(env), name, seeds)


@gmail.command()
@env_option
def links(env: str | None) -> None:
    """Where MLflow compares the runs of each table of the reproduction."""
    from gmail_kedro.hooks.tracking_hooks import EXPERIMENT
    from gmail_kedro.tracking.table_links import project_links

    project = open_project(env)
    definitions = project.define("tables")["tables"]
    sys.stdout.write(project_links(project.root, EXPERIMENT, definitions, reproduction=project.reproduction))


@gmail.command("import-runs")
@env_option
def import_runs(env: str | None) -> int:
    """Bring into MLflow the records of runs that could not be written to it."""
    from gmail_kedro.commands import records

    return records.import_runs(open_project(env))


@gmail.command()
def code() -> None:
    """What code each stage of dvc.yaml hangs on: data/code."""
    from gmail_kedro.commands.code_lists import write_code_lists

    root = find_root()
    write_code_lists(root, root / CODE)


@gmail.command()
@click.option("--table", "tables", type=int, multiple=True, help="a table of the paper; again for more; default: all")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of the text")
@env_option
@params_option
def preflight(tables: tuple[int, ...], as_json: bool, env: str | None, params: str) -> int:
    """What of a profile's weights, corpora, tools and disk is here? Exit code 1 where anything is missing."""
    from gmail_kedro.preflight.findings import run_preflight

    project = open_project(env, params)
    titles = {number: table["title"] for number, table in project.define("tables")["tables"].items()}
    return run_preflight(project.root, project.profile, project.group, titles, tables, as_json=as_json)


@gmail.command()
@click.argument("kind", type=click.Choice(["clipcap"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--encoder", required=True, help="the encoder it was trained with, by its name")
@click.option("--normalize", type=click.Choice(["yes", "no"]), help="on unit embeddings? default: as published")
@click.option("--language-model", default="gpt2", help="the language model it was trained with")
@click.option("--language-model-path", default=None, help="a local folder of its weights")
def convert(kind: str, file: Path, folder: Path, normalize: str | None, **names: Any) -> None:
    """A published captioner as a folder for downstream.pretrained."""
    from gmail_kedro.models.captioners.clipcap_checkpoint import convert_clipcap

    convert_clipcap(file, folder, normalize=None if normalize is None else normalize == "yes", **names)
    sys.stdout.write(f"The captioner is in {folder}. Use it: --params=downstream.pretrained={folder}\n")


gmail.add_command(set_)

if __name__ == "__main__":
    sys.exit(main())
