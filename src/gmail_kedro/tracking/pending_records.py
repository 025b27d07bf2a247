"""Where the record of a run goes: to MLflow, and from the moment that MLflow fails into a file of ``mlflow_pending/``.

The file has one JSON object a line, each on the disk before the run goes on: first whose record it is, then the entries
of ``run_record``, at last how the run ended. ``import_journal`` brings it into a store, as often as it takes.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmail_kedro.redaction import redact
from gmail_kedro.tracking.mlflow_store import is_gone, process_tags
from gmail_kedro.tracking.run_record import Entry, apply_entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

FOLDER = "mlflow_pending"
IMPORT = "gmail-kedro import-runs"
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")


class Journal:
    """The record of one run.

    Args:
        folder: Where a file is made if MLflow fails.
        uri: Address of the store, for messages.
        client: Client of the store; None where it cannot be used from the start.
        run_id: The run in the store, if it has one.
    """

    def __init__(self, folder: Path, uri: str, client: "MlflowClient | None" = None, run_id: str | None = None) -> None:
        self.path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**9}.jsonl"
        self._uri, self._client, self._run_id = redact(uri), client, run_id
        self._started = int(time.time() * 1000)

    @property
    def is_live(self) -> bool:
        """Tells whether entries go to MLflow."""
        return self._client is not None

    def write(self, entry: Entry) -> None:
        """Records an entry of ``run_record``.

        Raises:
            MlflowException: If MLflow works and refuses the entry.
        """
        if self._client is not None:
            try:
                apply_entry(self._client, str(self._run_id), entry)
                return
            except Exception as error:
                if is_refusal(error):
                    raise
                self.leave_store(error)
        self._append(entry)

    def leave_store(self, error: BaseException) -> None:
        """Says, once, that MLflow cannot be used, and goes on in the file."""
        self._client = None
        if not self.path.exists():
            self._append({"run_id": self._run_id, "started": self._started, "process": process_tags()})
            logger.warning(
                "MLflow's store %s cannot be used (%s: %s). The run goes on, and its record is in %s; bring it into "
                "the store later with: %s",
                self._uri,
                type(error).__name__,
                redact(_first_line(error)),
                self.path,
                IMPORT,
            )

    def finish(self, status: str) -> None:
        """Says how the run ended, where it is recorded in the file.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        if not self.is_live:
            self._append({"ended": status, "at": int(time.time() * 1000)})

    def _append(self, entry: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())  # the process may be killed at any moment, and the machine stopped


def is_refusal(error: BaseException) -> bool:
    """Says whether MLflow works, and only does not take what it was given."""
    return getattr(error, "error_code", "") in REFUSALS


def pending_journals(folder: Path) -> list[Path]:
    """Returns the files of runs that wait to be imported, oldest first."""
    return sorted(folder.glob("*.jsonl"))


def import_journal(path: Path, client: "MlflowClient", experiment_id: str) -> str:
    """Brings the record of a run into a store and removes the file; returns what became of it, in words.

    A run that the store has already goes on there. A run whose process was killed ends as ``KILLED``.

    Args:
        path: The file.
        client: Client of the store.
        experiment_id: Where a run is made that the store does not have.

    Raises:
        ValueError: If the file has no head.
        Exception: Whatever MLflow raises where the store cannot be used; the file stays, and may be imported again.
    """
    entries = _read(path)
    if not entries or "process" not in entries[0]:
        raise ValueError(f"{path} is no record of a run: its first line does not say whose. Delete it.")
    head, *entries = entries
    end = next((entry for entry in entries if "ended" in entry), None)
    if end is None and not is_gone(head["process"]):
        return "is still being written, or on another host"
    run_id = next((entry["imported_as"] for entry in entries if "imported_as" in entry), head["run_id"])
    if run_id is None:
        run_id = client.create_run(experiment_id, start_time=head["started"], tags=head["process"]).info.run_id
        with path.open("a", encoding="utf-8") as stream:  # so that a second import goes on with it
            # Its own line, even where a kill cut the last one.
            stream.write("\n" + json.dumps({"imported_as": run_id}) + "\n")
    refused = []
    for entry in entries:
        if "ended" not in entry and "imported_as" not in entry:
            refused += _apply(client, run_id, entry)
    client.set_terminated(run_id, "KILLED" if end is None else end["ended"], None if end is None else end["at"])
    path.unlink()
    lost = f", without what was refused: {'; '.join(refused)}" if refused else ""
    return f"is run {run_id} now{lost}"


def _apply(client: "MlflowClient", run_id: str, entry: Entry) -> list[str]:
    try:
        apply_entry(client, run_id, entry)
    except FileNotFoundError as error:
        return [f"{error.filename} is not there any more"]
    except Exception as error:
        if not is_refusal(error):
            raise
        return [_first_line(error)]
    return []


def _read(path: Path) -> list[dict[str, Any]]:
    """Returns the entries; a line that a kill cut is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            if line.strip():
                logger.warning("%s has a line that was cut; it is left out.", path)
    return entries


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]
