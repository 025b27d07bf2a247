"""What the runs of the reproduction left: scores, intervals, image by image, and where each number comes from."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.reporting.report_files import DamagedReportError, read_items, read_report
from gmail_kedro.reporting.tables import Column

logger = logging.getLogger(__name__)

RECEIPT = "run.json"
REPORTS = ("scores", "gap", "cost", "transfer", "vision_language")  # what tables may have numbers from
FACTS = (
    "corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer", "encoder", "generator",
    "generated_set", "generated_image_count"
)  # fmt: skip
ITEM_FILES = {
    "scores": "item_scores.parquet",
    "transfer": "transfer_items.parquet",
    "vision_language": "vision_language_items.parquet",
}
ITEM_GROUPS = {  # of scores.json; the keys of each are measures, behind a prefix where groups have the same keys
    "captioning": "", "retrieval": "", "classification": "", "linear_probe": "linear_probe_",
    "fine_tuning": "fine_tuning_", "gap": "",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One number of one run.

    Attributes:
        value: The score, in the column's unit; None where it is not there.
        interval: Its 95 % interval within the run, or None.
        items: It image by image, indexed by ``image_id``, or None.
        reason: Why it is not there, or ``""``.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    items: "pd.Series[float] | None" = None
    reason: str = ""


@dataclass(frozen=True)
class FinishedRun:
    """One run's reports.

    Attributes:
        run_id: Its id.
        folder: Where its reports are.
        receipt: What its ``run.json`` says.
        damage: Which of its files is damaged, or ``""``; such a run has no numbers.
        reports: The content of its JSON files by name.
        items: Its scores image by image, by the JSON file they belong to.
    """

    run_id: str
    folder: Path
    receipt: dict[str, Any]
    damage: str = ""
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, pd.DataFrame] = field(default_factory=dict)

    def find(self, column: Column) -> Found:
        """Returns the number that a column wants, or the run's own reason why there is none."""
        found = self._find(column)
        return self.find(column.instead) if found.value is None and column.instead is not None else found

    def _find(self, column: Column) -> Found:
        if self.damage:
            return Found(reason=self.damage)
        content = self.reports.get(column.file)
        if content is None:
            return Found(reason=f"{self.run_id} left no {column.file}.json: {self._told()}")
        place = content
        for group in column.groups:
            if group not in place:
                return Found(reason=f"{column.file}.json of {self.run_id} has no {'/'.join(column.groups)}")
            place = place[group]
        value = place.get("scores", {}).get(column.key)
        if value is None or not np.isfinite(value):
            known = place.get("unavailable", {})
            reason = known.get(column.key) or known.get("all") or f"{self.run_id} has no {column.key}"
            return Found(reason=reason if value is None else f"{column.key} of {self.run_id} is not a finite number")
        interval = place.get("intervals", {}).get(column.key)
        return Found(
            value=value / column.per,
            interval=None if interval is None else (interval["low"] / column.per, interval["high"] / column.per),
            items=self._items(column),
        )

    def protocol(self, column: Column) -> dict[str, Any]:
        """Returns how a column's numbers were measured, and what the run was made from."""
        content, scores = self.reports.get(column.file, {}), self.reports.get("scores", {})
        facts: dict[str, Any] = {}
        for part in (self.receipt, scores.get("protocol"), content.get("protocol"), content.get(column.groups[0])):
            facts |= {name: value for name, value in (part or {}).items() if name in FACTS}
        return facts

    def _items(self, column: Column) -> "pd.Series[float] | None":
        table, group = self.items.get(column.file), "/".join(column.groups)
        if table is None or not ("group" in table or group in ITEM_GROUPS):
            return None
        prefix = "" if "group" in table else ITEM_GROUPS[group]
        rows = table[table["measure"] == f"{prefix}{column.key}"]
        rows = rows[rows["group"] == group] if "group" in table else rows
        return None if rows.empty else rows.set_index("image_id")["value"] / column.per

    def _told(self) -> str:
        return f"its pipelines are {', '.join(self.receipt['pipelines'])}"


def finished_runs(folder: Path, name: str, seeds: list[int]) -> dict[int, FinishedRun]:
    """Returns the whole runs of a name by seed; a run is whole when its ``run.json`` is there.

    A run of which a file is damaged has no numbers, but the reason why, which is logged too.

    Args:
        folder: Has a folder ``<name>-<seed>`` for each run.
        name: The run's name.
        seeds: Seeds to look for.
    """
    found = {}
    for seed in seeds:
        receipt = folder / f"{name}-{seed}" / RECEIPT
        if receipt.is_file():
            try:
                found[seed] = _open_run(receipt)
            except DamagedReportError as reason:
                logger.warning("The tables go without a run: %s.", reason)
                run_id = f"{folder.name}/{receipt.parent.name}"
                found[seed] = FinishedRun(run_id, receipt.parent, {"pipelines": []}, damage=str(reason))
    return found


def _open_run(receipt: Path) -> FinishedRun:
    """Opens a run with all its files, so that one that is damaged is known before a number of it is used."""
    place, facts = receipt.parent, read_report(receipt) or {}
    if lacking := [name for name in ("run_id", "pipelines") if name not in facts]:
        raise DamagedReportError(receipt, f"it does not say {' and '.join(lacking)}")
    contents = {name: read_report(place / f"{name}.json") for name in REPORTS}
    tables = {name: read_items(place / file) for name, file in ITEM_FILES.items()}
    return FinishedRun(
        run_id=facts["run_id"],
        folder=place,
        receipt=facts,
        reports={name: content for name, content in contents.items() if content is not None},
        items={name: table for name, table in tables.items() if table is not None},
    )
