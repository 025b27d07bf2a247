"""What the runs of a reproduction left on disk, beside the result table: scores, gap, training histories, planes."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.reporting.report_files import DamagedReportError, read_history, read_report

logger = logging.getLogger(__name__)

RUN_FOLDER = re.compile(r"(?P<name>.+)-(?P<seed>\d+)")
REPORTS = ("scores.json", "gap.json", "vision_language.json")
HISTORIES = ("alignment", "captioner", "retriever", "vision_language")


@dataclass(frozen=True)
class RunResults:
    """One run of one seed; what it did not leave is empty or None.

    Attributes:
        name: The run's name in ``experiments.yml``.
        seed: Its seed.
        protocol: What was measured, and how: the ``protocol`` of ``scores.json``.
        gap: The content of ``gap.json``: ``scores`` and ``intervals`` by measure and time.
        histories: Training histories by what was trained, one row a step.
        tsne: The file of the planes before and after alignment.
    """

    name: str
    seed: int
    protocol: Mapping[str, Any]
    gap: Mapping[str, Any]
    histories: Mapping[str, pd.DataFrame]
    tsne: Path | None


def read_runs(folder: Path) -> list[RunResults]:
    """Returns the runs of a reproduction by name and seed; a folder that is no run's is left out.

    A run of which a file is damaged is left out with a warning that names the file.

    Args:
        folder: Has a folder ``<name>-<seed>`` for every run.
    """
    runs = []
    for place in folder.iterdir():
        match = RUN_FOLDER.fullmatch(place.name)
        if match is None or not any((place / name).is_file() for name in REPORTS):
            continue
        try:
            runs.append(_read_run(place, match["name"], int(match["seed"])))
        except DamagedReportError as reason:
            logger.warning("The figures go without a run: %s.", reason)
    return sorted(runs, key=lambda run: (run.name, run.seed))


def _read_run(place: Path, name: str, seed: int) -> RunResults:
    histories = {kind: read_history(place / f"{kind}_history.csv") for kind in HISTORIES}
    return RunResults(
        name=name,
        seed=seed,
        protocol=(read_report(place / "scores.json") or {}).get("protocol", {}),
        gap=read_report(place / "gap.json") or {},
        histories={kind: history for kind, history in histories.items() if history is not None},
        tsne=place / "tsne.png" if (place / "tsne.png").is_file() else None,
    )
