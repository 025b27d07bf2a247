"""``gmail-kedro import-runs``: the records of runs that MLflow could not take while they ran."""

import os
import sys

from gmail_kedro.commands.project import Project
from gmail_kedro.redaction import redact


def import_runs(project: Project) -> int:
    """Brings every record that waits into the store; returns 1 if one of them cannot be imported.

    Raises:
        RuntimeError: If the store cannot be used; the records stay.
    """
    from gmail_kedro.hooks.tracking_hooks import EXPERIMENT
    from gmail_kedro.tracking.mlflow_store import TRACKING_URI, connect, default_uri, wait_shortly
    from gmail_kedro.tracking.pending_records import FOLDER, import_journal, pending_journals

    wait_shortly()  # a person is waiting; MLflow alone would try for four minutes
    uri = (
        project.tracking()["server"]["mlflow_tracking_uri"] or os.environ.get(TRACKING_URI) or default_uri(project.root)
    )
    experiment = project.tracking()["tracking"]["experiment"].get("name", EXPERIMENT)
    waiting = pending_journals(project.root / FOLDER)
    if not waiting:
        sys.stdout.write("No record of a run waits to be imported.\n")
        return 0
    try:
        client, experiment_id = connect(uri, experiment=experiment)
    except Exception as error:
        raise RuntimeError(
            f"MLflow's store {uri} must answer before records can be imported ({type(error).__name__}: {error}). The "
            f"{len(waiting)} records stay in {project.root / FOLDER}. Start the server, correct {TRACKING_URI}, or "
            "move a damaged database away, so that a new one is made; then give the command again."
        ) from error
    failed = 0
    for path in waiting:
        try:
            sys.stdout.write(f"{path.name} {import_journal(path, client, experiment_id)}\n")
        except ValueError as error:  # one damaged record does not keep the others out
            failed = 1
            sys.stdout.write(f"{redact(str(error))}\n")
    return failed
