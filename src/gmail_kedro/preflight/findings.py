"""What a look at the machine found, as text for a terminal and as JSON."""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from gmail_kedro.preflight.machine import Finding, Tables, check_machine, disk_gb, gpu_hours
from gmail_kedro.preflight.requirements import FILE, Configuration, Requirements, read_requirements

BASE = "base"
TITLES = {"weights": "Weights", "corpus": "Corpora", "tool": "Tools", "gpu": "GPU", "disk": "Disk"}
UNNAMED = {"gpu": "GPU with {}", "disk": "disk {}"}
WIDTH = 120
INDENT = " " * 12
HOURS_A_DAY = 24


def run_preflight(
    root: Path,
    profile: str,
    configuration: Configuration,
    titles: Mapping[int, str],
    asked: Sequence[int],
    *,
    as_json: bool,
) -> int:
    """Prints what is here and what is not; returns 1 if anything that the tables need is missing.

    Raises:
        FileNotFoundError: If the profile says nowhere what it needs.
        ValueError: If a table is not in the profile.
    """
    requirements = read_requirements(root / "conf" / profile / FILE)
    tables = sorted(set(asked or requirements.tables))
    findings = check_machine(requirements, tables, root, cache(configuration))  # composing it takes a second
    summary = summarize(requirements, tables, findings, titles)
    if as_json:
        sys.stdout.write(json.dumps({"profile": profile, **summary}, indent=1) + "\n")
    else:
        sys.stdout.write(render(requirements, tables, findings, profile=profile))
        words = [str(number) for number in asked] + (["--env", profile] if profile != BASE else [])
        sys.stdout.write(f"\nTheir commands, in order: {' '.join(['gmail-kedro table --dry-run', *words])}\n")
    return 0 if summary["is_complete"] else 1


def summarize(
    requirements: Requirements, tables: Sequence[int], findings: Sequence[Finding], titles: Mapping[int, str]
) -> dict[str, Any]:
    """Returns the findings by table, as they are written to JSON."""
    chosen = {number: requirements.tables[number] for number in tables}
    return {
        "is_complete": all(finding.is_here for finding in findings),
        "gpu_hours": gpu_hours(requirements, chosen),
        "disk_gb": disk_gb(requirements, chosen),
        "tables": {
            str(number): {
                "title": titles[number],
                "missing": _missing(findings, number),
                "gpu_hours": gpu_hours(requirements, {number: table}),
                "disk_gb": disk_gb(requirements, {number: table}),
            }
            for number, table in chosen.items()
        },
        "findings": [asdict(finding) for finding in findings],
    }


def render(
    requirements: Requirements,
    tables: Sequence[int],
    findings: Sequence[Finding],
    *,
    profile: str,
) -> str:
    """Returns the findings as text: what is here and what is not, by kind; then every table with what it lacks."""
    lines = [f"Profile {profile}: {len(tables)} tables of the paper"]
    for kind, title in TITLES.items():
        of_kind = [finding for finding in findings if finding.kind == kind]
        lines += ["", title] if of_kind else []
        for finding in sorted(of_kind, key=lambda one: one.is_here):
            lines += _finding_lines(finding)
    chosen = {number: requirements.tables[number] for number in tables}
    lines += ["", *_table_lines(requirements, chosen, findings)]
    return "\n".join(lines) + "\n"


def _finding_lines(finding: Finding) -> list[str]:
    mark = "  here    " if finding.is_here else "  MISSING "
    detail = textwrap.wrap(
        finding.detail, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [f"{mark}{finding.name}  (table {_ranges(finding.tables)})", *detail]


def _ranges(numbers: Sequence[int]) -> str:
    """Returns sorted numbers as ``1-3, 5``."""
    # within a run of consecutive numbers, number minus place is the same
    runs = [list(run) for _, run in groupby(enumerate(numbers), key=lambda placed: placed[1] - placed[0])]
    ends = [(run[0][1], run[-1][1]) for run in runs]
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ends)


def _table_lines(requirements: Requirements, tables: Tables, findings: Sequence[Finding]) -> list[str]:
    lines = ["Table  GPU time      Disk  Missing"]
    for number, table in tables.items():
        head = f"{number:>5}{_costs(requirements, {number: table})}  "
        missing = ", ".join(_missing(findings, number)) or "nothing"
        lines += textwrap.wrap(
            missing, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
    lines.append(f"  all{_costs(requirements, tables)}  (a set that tables share counts once, a run for each table)")
    used = {name for table in tables.values() for name in table.work}
    origins = [f"{name}: {work.origin}" for name, work in requirements.work.items() if name in used]
    for origin in origins:
        lines += textwrap.wrap(origin, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _costs(requirements: Requirements, tables: Tables) -> str:
    hours, gb = gpu_hours(requirements, tables), disk_gb(requirements, tables)
    time = f"{hours / HOURS_A_DAY:,.1f} d" if hours >= 2 * HOURS_A_DAY else f"{hours:,.1f} h"
    return f"{time:>10}{gb:>7,.0f} GB"


def _missing(findings: Sequence[Finding], number: int) -> list[str]:
    return [
        UNNAMED.get(finding.kind, "{}").format(finding.name)
        for finding in findings
        if number in finding.tables and not finding.is_here
    ]
