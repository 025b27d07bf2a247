"""Where finished runs are read: every file that one leaves in data/08_reporting, and each number by its address.

Tables, studies, figures and the notebook all ask this module. A run is opened whole before a number of it is used: if
one of its files was cut or changed, the run has no numbers but the reason, so that no table shows half of a run.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.comparison import Number
from gmail_kedro.reporting.report_files import DamagedReportError, read_history, read_items, read_report
from gmail_kedro.reporting.table_definitions import Column

logger = logging.getLogger(__name__)

RECEIPT = "run.json"  # of a table's or a study's run; it is written last, so a run that has it is whole
RUN_FOLDER = re.compile(r"(?P<name>.+)-(?P<seed>\d+)")
REPORTS = ("scores", "gap", "cost", "transfer", "vision_language")
ITEM_FILES = {  # scores image by image, beside the report of the same name
    "scores": "item_scores.parquet",
    "transfer": "transfer_items.parquet",
    "vision_language": "vision_language_items.parquet",
}
ITEM_GROUPS = {  # item_scores.parquet has no column `group`: a prefix tells groups with the same keys apart
    "captioning": "", "retrieval": "", "classification": "", "linear_probe": "linear_probe_",
    "fine_tuning": "fine_tuning_", "gap": "",
}  # fmt: skip
HISTORIES = ("alignment", "captioner", "retriever", "vision_language")
PROTOCOL = (
    "corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer", "encoder", "generator",
    "generated_set", "generated_image_count"
)  # fmt: skip


@dataclass(frozen=True)
class FinishedRun:
    """What one run of one seed left."""

    name: str  # the run's name in `experiments.yml`, or a study's variant
    seed: int
    run_id: str
    folder: Path
    receipt: Mapping[str, Any] = field(default_factory=dict)  # run.json
    damage: str = ""  # which of its files is damaged; such a run has no numbers
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # its JSON files by name
    items: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # image by image, by the JSON file it belongs to

    @property
    def gap(self) -> Mapping[str, Any]:
        """Returns the content of ``gap.json``: ``scores`` and ``intervals`` by measure and time."""
        return self.reports.get("gap", {})

    @property
    def tsne(self) -> Path | None:
        """Returns the file of the planes before and after alignment, if the run left it."""
        path = self.folder / "tsne.png"
        return path if path.is_file() else None

    @cached_property
    def histories(self) -> dict[str, pd.DataFrame]:
        """Returns the training histories by what was trained, one row a step.

        Raises:
            DamagedReportError: If one is not whole.
        """
        found = {kind: read_history(self.folder / f"{kind}_history.csv") for kind in HISTORIES}
        return {kind: history for kind, history in found.items() if history is not None}

    def find(self, column: Column) -> Number:
        """Returns the number at a column's first address that has one, or why the last one has none."""
        number = self._find(column)
        return self.find(column.instead) if number.value is None and column.instead is not None else number

    def _find(self, column: Column) -> Number:
        if self.damage:
            return Number(reason=self.damage)
        content = self.reports.get(column.file)
        if content is None:
            pipelines = ", ".join(self.receipt.get("pipelines", ()))
            return Number(reason=f"{self.run_id} left no {column.file}.json: its pipelines are {pipelines}")
        place = content
        for group in column.groups:
            if group not in place:
                return Number(reason=f"{column.file}.json of {self.run_id} has no {'/'.join(column.groups)}")
            place = place[group]
        value = place.get("scores", {}).get(column.key)
        if value is None:
            known = place.get("unavailable", {})
            return Number(reason=known.get(column.key) or known.get("all") or f"{self.run_id} has no {column.key}")
        if not np.isfinite(value):
            return Number(reason=f"{column.key} of {self.run_id} is not a finite number")
        interval = place.get("intervals", {}).get(column.key)
        return Number(
            value=value / column.per,
            interval=None if interval is None else (interval["low"] / column.per, interval["high"] / column.per),
            items=self._find_items(column),
            protocol=self._protocol(column),
        )

    def _find_items(self, column: Column) -> "pd.Series[float] | None":
        table, group = self.items.get(column.file), "/".join(column.groups)
        if table is None:
            return None
        if "group" in table:
            rows = table[(table["measure"] == column.key) & (table["group"] == group)]
        elif group in ITEM_GROUPS:
            rows = table[table["measure"] == f"{ITEM_GROUPS[group]}{column.key}"]
        else:
            return None
        return None if rows.empty else rows.set_index("image_id")["value"] / column.per

    def _protocol(self, column: Column) -> dict[str, Any]:
        content, facts = self.reports[column.file], dict(self.receipt)
        # The nearer to the number, the more it counts: transfer.json's groups each have a corpus of their own.
        facts |= self.reports.get("scores", {}).get("protocol") or {}
        facts |= content.get("protocol") or {}
        facts |= content[column.groups[0]] if column.groups else {}
        return {name: facts[name] for name in PROTOCOL if name in facts}


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """Returns what a run's receipt says, or None where the run was not run to the end.

    Raises:
        DamagedReportError: If the receipt is not whole.
    """
    receipt = read_report(folder / RECEIPT)
    if receipt is not None and (lacking := [key for key in ("run_id", "pipelines") if key not in receipt]):
        raise DamagedReportError(folder / RECEIPT, f"it does not say {' and '.join(lacking)}")
    return receipt


def find_runs(folder: Path, name: str, seeds: Sequence[int]) -> dict[int, FinishedRun]:
    """Returns the finished runs of a name by seed.

    A run of which a file is damaged is among them, without numbers and with the reason, which is logged too.

    Args:
        folder: Has a folder ``<name>-<seed>`` for each run.
        name: The run's name.
        seeds: Seeds to look for.
    """
    found = {seed: _open_run(folder / f"{name}-{seed}", name, seed) for seed in seeds}
    runs = {seed: run for seed, run in found.items() if run is not None}
    for run in runs.values():
        if run.damage:
            logger.warning("The tables go without a run: %s.", run.damage)
    return runs


def read_runs(folder: Path) -> list[FinishedRun]:
    """Returns the finished runs of a folder by name and seed; what is no run's folder is left out.

    A run of which a file is damaged is left out with a warning that names the file.

    Args:
        folder: Has a folder ``<name>-<seed>`` for every run.
    """
    matches = [match for place in folder.iterdir() if (match := RUN_FOLDER.fullmatch(place.name))]
    found = [_open_run(folder / match[0], match["name"], int(match["seed"])) for match in matches]
    runs = [run for run in found if run is not None and not _has_damage(run)]
    return sorted(runs, key=lambda run: (run.name, run.seed))


def _has_damage(run: FinishedRun) -> bool:
    reason = run.damage
    try:
        run.histories  # noqa: B018  # read here, so that a damaged one is told once and not in the middle of a figure
    except DamagedReportError as error:
        reason = reason or str(error)
    if reason:
        logger.warning("The figures go without a run: %s.", reason)
    return bool(reason)


def _open_run(place: Path, name: str, seed: int) -> FinishedRun | None:
    run_id = f"{place.parent.name}/{place.name}"
    try:
        receipt = read_receipt(place)
        if receipt is None:
            return None
        reports = {report: read_report(place / f"{report}.json") for report in REPORTS}
        items = {report: read_items(place / file) for report, file in ITEM_FILES.items()}
    except DamagedReportError as reason:
        return FinishedRun(name, seed, run_id, place, damage=str(reason))
    return FinishedRun(
        name,
        seed,
        receipt["run_id"],
        place,
        receipt,
        reports={report: content for report, content in reports.items() if content is not None},
        items={report: table for report, table in items.items() if table is not None},
    )
