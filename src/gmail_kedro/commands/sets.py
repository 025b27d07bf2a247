"""``gmail-kedro set``: what a person does with a generated set.

A set is named by its folder in ``data/02_intermediate`` or by its path. One that is not declared in sets.yml is made by
``kedro run --pipeline=generation``.
"""

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmail_kedro.commands.project import PAIRS, REPORTS, Project, env_option, open_project, params_option
from gmail_kedro.whole_files import atomic_write, known_write

if TYPE_CHECKING:
    from gmail_kedro.generated_sets.set_folder import GeneratedSet

logger = logging.getLogger(__name__)
SHEETS = REPORTS / "sets"
PROBLEMS_SHOWN = 20
DPI = 110


@click.group("set")
def set_() -> None:
    """Make a declared set, or look into a finished one: its folder in data/02_intermediate, or a path."""


@set_.command()
@click.argument("name")
@env_option
def make(name: str, env: str | None) -> None:
    """Make a set that sets.yml declares, or go on with it."""
    from gmail_kedro.commands.runs import make_set

    make_set(open_project(env), name)


@set_.command()
@click.argument("name")
def verify(name: str) -> int:
    """Read every byte and hold it against the manifest; the exit code is 1 if anything is wrong."""
    from gmail_kedro.generated_sets.verify import verify_set
    from gmail_kedro.pipelines.generation.card import check_card

    project = open_project()
    folder = project.folder(name)
    result = verify_set(folder, project.root / PAIRS / folder.name / "pairs.parquet")
    problems = [*result.problems, *check_card(folder)]
    read = (
        f"{result.image_count:,} images in {result.shard_count:,} shards, {result.byte_count:,} bytes read in "
        f"{result.seconds:.1f} s"
    )
    if not problems:
        click.echo(f"The set {name} is whole: {read}.")
        return 0
    click.echo(f"The set {name} has {len(problems)} problems ({read}):")
    for problem in problems[:PROBLEMS_SHOWN]:
        click.echo(f"- {problem.place}: {problem.what}.\n  {problem.repair}")
    if len(problems) > PROBLEMS_SHOWN:
        click.echo(f"- and {len(problems) - PROBLEMS_SHOWN} more")
    return 1


@set_.command()
@click.argument("name")
@click.argument("key")
@env_option
@params_option
def regenerate(name: str, key: str, env: str | None, params: str) -> int:
    """Make one image again, KEY is caption_id/sample_index, and compare it; the exit code is 1 if it differs."""
    from gmail_kedro.generated_sets.image_maker import ImageMaker
    from gmail_kedro.generated_sets.regenerate import regenerate_image
    from gmail_kedro.params.generation import GenerationParams
    from gmail_kedro.params.run import RunParams
    from gmail_kedro.pipelines.generation.nodes import build_generator, settings_of

    project = open_project(env, params)
    finished = _open(project, name)
    finished.row(key)  # an unknown key is refused before weights are hashed
    # Made as it was made then, with all that the set says of itself, and with what this machine has: its weights,
    # its libraries. So whatever differs is theirs.
    settings = dict(finished.images.description.settings)
    generation = _with(GenerationParams(**project.group("generation")), settings)
    run = _with(RunParams(**project.group("run")), settings)
    now = settings_of(generation)
    changed = {name: value for name, value in now.items() if settings.get(name) != value}
    found = regenerate_image(finished, key, ImageMaker(partial(build_generator, generation, run), now))
    for name, value in changed.items():
        click.echo(f"{name} was {settings.get(name)}; it is {value}.")
    if "revision" in changed:
        _say_changed_weights(finished, generation)
    if settings.get("precision") == "auto" and found.verdict != "identical":
        click.echo("The set was made with precision auto: float32 on one machine, bfloat16 on another.")
    distance = f"largest difference {found.max_difference}, mean {found.mean_difference:.3f} of 255"
    click.echo(f"{key} of {finished.name}, made again: {found.verdict} ({distance}).")
    return 1 if found.verdict == "different" else 0


@set_.command()
@click.argument("name")
@click.argument("new")
@click.option("--photographs", type=int, help="keep the first so many real images")
@click.option("--captions", type=click.Path(path_type=Path), help="keep the captions with the ids in this file")
@click.option("--samples", type=int, help="keep the first so many images of each caption")
@env_option
@params_option
def subset(name: str, new: str, env: str | None, params: str, **limits: Any) -> None:
    """Copy a part of a set as a set of its own, NEW, with its card."""
    from gmail_kedro.generated_sets.subset import choose_rows, copy_subset

    project = open_project(env, params)
    origin = _open(project, name)
    if not any(limit is not None for limit in limits.values()):
        raise ValueError("Say what to keep: --photographs N, --captions FILE or --samples N.")
    file = limits["captions"]
    ids = None if file is None else file.read_text(encoding="utf-8").split("\n")
    rows = choose_rows(
        origin.manifest,
        real_image_count=limits["photographs"],
        caption_ids=None if ids is None else [line for line in ids if line],
        samples_per_caption=limits["samples"],
    )
    made = copy_subset(origin, rows, project.folder(new))
    _write_card(project, made, _generator_entry(project, origin))
    click.echo(
        f"The set {made.name} has {len(made.manifest):,} of the {len(origin.manifest):,} images of {origin.name}."
    )


@set_.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of the table")
def stats(name: str, as_json: bool) -> None:
    """Counts, sizes, prompts, quarantine, brightness, near-duplicates."""
    from gmail_kedro.generated_sets.set_statistics import measure_images, set_statistics
    from gmail_kedro.reporting.set_card import statistics_table

    finished = _open(open_project(), name)
    figures = measure_images(finished.images, finished.made["key"].tolist())
    statistics = set_statistics(finished, figures)
    click.echo(json.dumps(statistics, indent=1) if as_json else statistics_table(statistics))


@set_.command()
@click.argument("name")
@click.option("--count", type=int, default=24, help="images on the sheet")
@env_option
@params_option
def sheet(name: str, count: int, env: str | None, params: str) -> None:
    """A contact sheet of images beside their real images, in data/08_reporting/sets."""
    project = open_project(env, params)
    finished = _open(project, name)
    path = project.root / SHEETS / f"{finished.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw(project, finished, count).savefig(path, dpi=DPI)
    click.echo(f"The contact sheet is {path}.")


@set_.command()
@click.argument("name")
@env_option
@params_option
def card(name: str, env: str | None, params: str) -> None:
    """Write the set's card again: card.json, README.md and samples.png in its folder."""
    project = open_project(env, params)
    finished = _open(project, name)
    _write_card(project, finished, _generator_entry(project, finished))
    click.echo(f"The card of {finished.name} is in {finished.folder}.")


def _open(project: Project, name: str) -> "GeneratedSet":
    from gmail_kedro.generated_sets.set_folder import open_set

    return open_set(project.folder(name))


def _with(params: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a parameter group with what a set's settings say of its fields."""
    return params.replace(**{name: settings[name] for name in params.leaves() if name in settings})


def _generator_entry(project: Project, finished: "GeneratedSet") -> dict[str, Any]:
    """Returns what the set's own card says of the generator, or what the weights here say where there is no card."""
    from gmail_kedro.params.generation import GenerationParams
    from gmail_kedro.pipelines.generation.card import describe_generator, read_card

    # A part of a set has the card's word: the weights here may be others by now.
    try:
        entry = read_card(finished.folder)["generator"]
        if entry["revision"] == finished.images.description.settings["revision"]:
            return entry
    except (FileNotFoundError, ValueError) as error:
        logger.info("The generator is described from its weights: %s", error)
    params = _with(GenerationParams(**project.group("generation")), finished.images.description.settings)
    return describe_generator(finished, params)


def _write_card(project: Project, finished: "GeneratedSet", generator: Mapping[str, Any]) -> None:
    from gmail_kedro.pipelines.generation.card import CARD_FILE, PAGE_FILE, SAMPLE_COUNT, SHEET_FILE, card_of
    from gmail_kedro.reporting.set_card import set_card_page

    content = card_of(finished, generator)
    page = set_card_page(content, sheet=SHEET_FILE)
    card_file = finished.folder / CARD_FILE
    # The card has a checksum, for a reader checks it; page and sheet are made from it and can be made again.
    with known_write(card_file) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    with atomic_write(finished.folder / PAGE_FILE) as partial:
        partial.write_text(page, encoding="utf-8")
    with atomic_write(finished.folder / SHEET_FILE) as partial:
        _draw(project, finished, SAMPLE_COUNT).savefig(partial, dpi=DPI, format="png")


def _draw(project: Project, finished: "GeneratedSet", count: int) -> Any:
    from kedro.io import DatasetError

    from gmail_kedro.pipelines.generation.card import draw_samples

    try:
        real_images = project.corpus().images
    except DatasetError as error:  # a set that was fetched is worth looking at without its corpus
        logger.warning("The sheet goes without real images, the corpus is not here: %s", error)
        real_images = None
    return draw_samples(finished, real_images, count)


def _say_changed_weights(finished: "GeneratedSet", params: Any) -> None:
    from gmail_kedro.generated_sets.regenerate import changed_files
    from gmail_kedro.models.generators.known_generators import generator_files
    from gmail_kedro.pipelines.generation.card import CARD_FILE, read_card

    if not (finished.folder / CARD_FILE).is_file():
        click.echo(f"Which weight files differ cannot be said: {finished.folder / CARD_FILE} is not there.")
        return
    then = read_card(finished.folder)["generator"]["weights"]
    for line in changed_files(then, generator_files(params.generator, params.generator_path)):
        click.echo(f"- {line}")
