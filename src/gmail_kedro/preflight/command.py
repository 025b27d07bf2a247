"""``gmail-kedro preflight``: is everything here that a profile needs for the tables of the paper?"""

import argparse
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gmail_kedro.preflight.requirements import FILE, Configuration, read_requirements

BASE = "base"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Returns the parser of ``preflight``, added to a command line.

    Args:
        commands: What ``add_subparsers`` returned.
    """
    parser = commands.add_parser("preflight", help="what of a profile's weights, corpora, tools and disk is here?")
    parser.add_argument("--env", default=None, help="the profile in conf/, as in kedro run --env")
    parser.add_argument("--params", default="", help="as in kedro run --params: paths of weights")
    parser.add_argument("--table", type=int, action="append", help="a table of the paper; again for more; default: all")
    parser.add_argument("--json", action="store_true", help="JSON in place of the text")
    return parser


def run_preflight(
    root: Path, configuration: Configuration, titles: Mapping[int, str], options: argparse.Namespace
) -> int:
    """Prints what is here and what is not; returns 1 if anything that the tables need is missing.

    Args:
        root: The project.
        configuration: Returns a parameter group of the profile by name.
        titles: Of the tables, by number.
        options: What the command line says.

    Raises:
        FileNotFoundError: If the profile says nowhere what it needs.
        ValueError: If a table is not in the profile.
    """
    from gmail_kedro.preflight.checks import check_machine
    from gmail_kedro.preflight.report import render, summarize

    profile = options.env or BASE
    requirements = read_requirements(root / "conf" / profile / FILE)
    tables = sorted(set(options.table or requirements.tables))
    findings = check_machine(requirements, tables, root, cache(configuration))  # composing it takes a second
    summary = summarize(requirements, tables, findings, titles)
    if options.json:
        sys.stdout.write(json.dumps({"profile": profile, **summary}, indent=1) + "\n")
    else:
        sys.stdout.write(render(requirements, tables, findings, profile=profile))
        asked = [str(number) for number in options.table or ()] + (["--env", options.env] if options.env else [])
        sys.stdout.write(f"\nTheir commands, in order: {' '.join(['gmail-kedro table --dry-run', *asked])}\n")
    return 0 if summary["is_complete"] else 1
