"""``gmail-kedro set``: what a person does with a generated set.

======================  ================================================================================
make NAME               makes the set that sets.yml declares under this name, or goes on with it
verify NAME             reads every byte and holds it against the manifest
regenerate NAME KEY     makes one picture again and compares it with the stored one
subset NAME NEW         copies a part of a set as a set of its own
stats NAME              counts, sizes, prompts, quarantine, brightness, near-duplicates
sheet NAME              a contact sheet of pictures beside their photographs
card NAME               writes the set's card again, as the generation pipeline does
======================  ================================================================================

NAME is the set's folder in ``data/02_intermediate``, or a path. A set that is not declared is made by
``kedro run --pipeline=generation``.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gmail_kedro.commands.declared_sets import make_set
from gmail_kedro.commands.project import Project
from gmail_kedro.generated_sets.set_folder import GeneratedSet, open_set
from gmail_kedro.whole_files import atomic_write, known_write

logger = logging.getLogger(__name__)
SHEETS = "data/08_reporting/sets"
PAIRS = "data/03_primary"
PROBLEMS_SHOWN = 20
DPI = 110


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Returns the parser of ``set``, added to a command line with its own commands; ``look`` is what they do.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    group = commands.add_parser("set", help="make a declared set, or look into a finished one: verify, subset, …")
    actions = group.add_subparsers(dest="action", required=True)
    added = {}
    for name, (function, words) in ACTIONS.items():
        added[name] = actions.add_parser(name, help=words)
        added[name].add_argument("name", metavar="NAME", help="the set: its folder in data/02_intermediate, or a path")
        added[name].set_defaults(look=function)
    added["regenerate"].add_argument("key", metavar="KEY", help="caption_id/sample_index")
    added["subset"].add_argument("new", metavar="NEW", help="name of the new set")
    added["subset"].add_argument("--photographs", type=int, help="keep the first so many photographs")
    added["subset"].add_argument(
        "--captions", type=Path, help="keep the captions with the ids in this file, one a line"
    )
    added["subset"].add_argument("--samples", type=int, help="keep the first so many pictures of each caption")
    added["stats"].add_argument("--json", action="store_true", help="JSON in place of the table")
    added["sheet"].add_argument("--count", type=int, default=24, help="pictures on the sheet")
    for name in ("make", "regenerate", "subset", "sheet", "card"):
        added[name].add_argument("--env", default=None, help="the profile in conf/, as in kedro run --env")
    for name in ("regenerate", "subset", "sheet", "card"):
        added[name].add_argument("--params", default="", help="as in kedro run --params: the weights, the corpus")
    return group


def make(project: Project, options: argparse.Namespace) -> int:
    """Makes a set of ``sets.yml``, or goes on with it."""
    make_set(project, options.name)
    return 0


def verify(project: Project, options: argparse.Namespace) -> int:
    """Prints what is wrong with a set; returns 1 if anything is."""
    from gmail_kedro.generated_sets.verify import verify_set
    from gmail_kedro.pipelines.generation.card import check_card

    folder = project.folder(options.name)
    result = verify_set(folder, project.root / PAIRS / folder.name / "pairs.parquet")
    problems = [*result.problems, *check_card(folder)]
    read = (
        f"{result.image_count:,} pictures in {result.shard_count:,} shards, {result.byte_count:,} bytes read in "
        f"{result.seconds:.1f} s"
    )
    if not problems:
        _say(f"The set {options.name} is whole: {read}.")
        return 0
    _say(f"The set {options.name} has {len(problems)} problems ({read}):")
    for problem in problems[:PROBLEMS_SHOWN]:
        _say(f"- {problem.place}: {problem.what}.\n  {problem.repair}")
    if len(problems) > PROBLEMS_SHOWN:
        _say(f"- and {len(problems) - PROBLEMS_SHOWN} more")
    return 1


def regenerate(project: Project, options: argparse.Namespace) -> int:
    """Makes one picture again from its row and prints how far it is from the stored one; returns 1 if it differs."""
    from gmail_kedro.generated_sets.image_difference import compare_images
    from gmail_kedro.generated_sets.image_maker import ImageMaker
    from gmail_kedro.params.generation import GenerationParams
    from gmail_kedro.params.run import RunParams
    from gmail_kedro.pipelines.generation.nodes import build_generator, settings_of

    finished = open_set(project.folder(options.name))
    row = finished.row(options.key)
    stored = finished.read(options.key)
    settings = dict(finished.images.description.settings)
    params = _with(GenerationParams(**project.group("generation")), settings)
    run = _with(RunParams(**project.group("run")), settings)
    now = settings_of(params)
    changed = {name: value for name, value in now.items() if settings.get(name) != value}
    maker = ImageMaker(partial(build_generator, params, run), now)
    made = maker.make(row, 0)  # its seed is already that of its retry
    if not (stored and made.jpeg):
        raise ValueError(f"There is nothing to compare: {made.facts.get('detail', row['reason'])}.")
    found = compare_images(stored, made.jpeg)
    for name, value in changed.items():
        _say(f"{name} was {settings.get(name)}; it is {value}.")
    if "revision" in changed:
        _say_changed_weights(finished, params)
    if settings.get("precision") == "auto" and found.verdict != "identical":
        _say("The set was made with precision auto: float32 on one machine, bfloat16 on another.")
    distance = f"largest difference {found.max_difference}, mean {found.mean_difference:.3f} of 255"
    _say(f"{options.key} of {finished.name}, made again: {found.verdict} ({distance}).")
    return 1 if found.verdict == "different" else 0


def subset(project: Project, options: argparse.Namespace) -> int:
    """Copies a part of a set as a set of its own, with its card."""
    from gmail_kedro.generated_sets.subset import choose_rows, copy_subset

    origin = open_set(project.folder(options.name))
    limits = (options.photographs, options.captions, options.samples)
    if limits == (None, None, None):
        raise ValueError("Say what to keep: --photographs N, --captions FILE or --samples N.")
    ids = None if options.captions is None else options.captions.read_text(encoding="utf-8").split("\n")
    rows = choose_rows(
        origin.manifest,
        real_image_count=options.photographs,
        caption_ids=None if ids is None else [line for line in ids if line],
        samples_per_caption=options.samples,
    )
    made = copy_subset(origin, rows, project.folder(options.new))
    _write_card(project, made, _generator_entry(project, origin))
    _say(f"The set {made.name} has {len(made.manifest):,} of the {len(origin.manifest):,} pictures of {origin.name}.")
    return 0


def stats(project: Project, options: argparse.Namespace) -> int:
    """Prints the statistics of a set as a table or as JSON."""
    from gmail_kedro.generated_sets.set_statistics import measure_images, set_statistics
    from gmail_kedro.reporting.set_card import statistics_table

    finished = open_set(project.folder(options.name))
    figures = measure_images(finished.images, finished.made["key"].tolist())
    statistics = set_statistics(finished, figures)
    _say(json.dumps(statistics, indent=1) if options.json else statistics_table(statistics))
    return 0


def sheet(project: Project, options: argparse.Namespace) -> int:
    """Writes a contact sheet to ``data/08_reporting/sets``."""
    finished = open_set(project.folder(options.name))
    path = project.root / SHEETS / f"{finished.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw(project, finished, options.count).savefig(path, dpi=DPI)
    _say(f"The contact sheet is {path}.")
    return 0


def card(project: Project, options: argparse.Namespace) -> int:
    """Writes a set's card again: ``card.json``, ``README.md`` and ``samples.png`` in its folder."""
    finished = open_set(project.folder(options.name))
    _write_card(project, finished, _generator_entry(project, finished))
    _say(f"The card of {finished.name} is in {finished.folder}.")
    return 0


ACTIONS: dict[str, tuple[Callable[[Project, argparse.Namespace], int], str]] = {
    "make": (make, "make a set that sets.yml declares, or go on with it"),
    "verify": (verify, "read every byte and hold it against the manifest"),
    "regenerate": (regenerate, "make one picture again and compare it with the stored one"),
    "subset": (subset, "copy a part of a set as a set of its own"),
    "stats": (stats, "counts, sizes, prompts, quarantine, brightness, near-duplicates"),
    "sheet": (sheet, "a contact sheet of pictures beside their photographs"),
    "card": (card, "write the set's card again"),
}


def _with(params: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a parameter group with what a set's settings say of its fields."""
    return params.replace(**{name: settings[name] for name in params.leaves() if name in settings})


def _generator_entry(project: Project, finished: GeneratedSet) -> dict[str, Any]:
    """Returns what the set's own card says of the generator, or what the weights here say where there is no card."""
    from gmail_kedro.params.generation import GenerationParams
    from gmail_kedro.pipelines.generation.card import describe_generator, read_card

    try:
        entry = read_card(finished.folder)["generator"]
        if entry["revision"] == finished.images.description.settings["revision"]:
            return entry
    except (FileNotFoundError, ValueError) as error:
        logger.info("The generator is described from its weights: %s", error)
    params = _with(GenerationParams(**project.group("generation")), finished.images.description.settings)
    return describe_generator(finished, params)


def _write_card(project: Project, finished: GeneratedSet, generator: Mapping[str, Any]) -> None:
    from gmail_kedro.pipelines.generation.card import CARD_FILE, PAGE_FILE, SAMPLE_COUNT, SHEET_FILE, card_of
    from gmail_kedro.reporting.set_card import set_card_page

    content = card_of(finished, generator)
    page = set_card_page(content, sheet=SHEET_FILE)
    card_file = finished.folder / CARD_FILE
    with known_write(card_file) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    with atomic_write(finished.folder / PAGE_FILE) as partial:
        partial.write_text(page, encoding="utf-8")
    with atomic_write(finished.folder / SHEET_FILE) as partial:
        _draw(project, finished, SAMPLE_COUNT).savefig(partial, dpi=DPI, format="png")


def _draw(project: Project, finished: GeneratedSet, count: int) -> Any:
    from kedro.io import DatasetError

    from gmail_kedro.pipelines.generation.card import draw_samples

    try:
        photographs = project.corpus().images
    except DatasetError as error:  # a set that was fetched is worth looking at without its corpus
        logger.warning("The sheet goes without photographs, the corpus is not here: %s", error)
        photographs = None
    return draw_samples(finished, photographs, count)


def _say_changed_weights(finished: GeneratedSet, params: Any) -> None:
    from gmail_kedro.generated_sets.image_difference import changed_files
    from gmail_kedro.models.generators.known_generators import generator_files
    from gmail_kedro.pipelines.generation.card import CARD_FILE, read_card

    if not (finished.folder / CARD_FILE).is_file():
        _say(f"Which weight files differ cannot be said: {finished.folder / CARD_FILE} is not there.")
        return
    then = read_card(finished.folder)["generator"]["weights"]
    for line in changed_files(then, generator_files(params.generator, params.generator_path)):
        _say(f"- {line}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
