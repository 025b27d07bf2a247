"""What the runs of a reproduction left on disk, beside the result table: scores, gap, training histories, planes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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

    Args:
        folder: Has a folder ``<name>-<seed>`` for every run.
    """
    runs = []
    for place in folder.iterdir():
        match = RUN_FOLDER.fullmatch(place.name)
        if match is None or not any((place / name).is_file() for name in REPORTS):
            continue
        histories = {name: place / f"{name}_history.csv" for name in HISTORIES}
        runs.append(
            RunResults(
                name=match["name"],
                seed=int(match["seed"]),
                protocol=_read(place / "scores.json").get("protocol", {}),
                gap=_read(place / "gap.json"),
                histories={name: _history(path) for name, path in histories.items() if _has_text(path)},
                tsne=place / "tsne.png" if (place / "tsne.png").is_file() else None,
            )
        )
    return sorted(runs, key=lambda run: (run.name, run.seed))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _has_text(path: Path) -> bool:
    return path.is_file() and bool(path.read_text(encoding="utf-8").strip())


def _history(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)
