"""The MLflow store: where it is, whether it can be used, and runs in it whose process is gone."""

import contextlib
import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
TRACKING_URI = "MLFLOW_TRACKING_URI"
PATIENCE = {  # MLflow alone would wait four minutes for a server that is not there
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
FIRST_CALL = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
HOST, PID, STARTED = "process.host", "process.pid", "process.started"
NO_FILE_STORE = (
    "MLflow writes no folders of files any more: name a database, MLFLOW_TRACKING_URI=sqlite:///mlflow.db, and bring "
    "the old runs into it with `mlflow migrate-filestore`"
)


def default_uri(project: Path) -> str:
    """Returns the address of the project's own SQLite store, the same from any working directory."""
    return f"{SQLITE}{project.resolve() / 'mlflow.db'}"


def wait_shortly() -> None:
    """Makes MLflow give up on a server within a minute, where the environment does not say how long it waits."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def open_store(uri: str, *, experiment: str) -> None:
    """Makes sure, within seconds, that a store answers; creates tables and experiment of a SQLite one.

    Artifacts go to ``mlartifacts`` beside the database, wherever the run was started from.

    Raises:
        ValueError: If it is a folder of files, which MLflow does not write any more.
        Exception: Whatever MLflow or the database raise where the store cannot be used.
    """
    from mlflow import MlflowClient

    if urlparse(uri).scheme in ("", "file") and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() != "true":
        raise ValueError(NO_FILE_STORE)
    if not uri.startswith(SQLITE):
        with _environment(FIRST_CALL):
            MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
        return
    database = Path(uri.removeprefix(SQLITE)).absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    # Two runs started together would both create the tables, and one would fail.
    with exclusive(database.with_name(f"{database.name}.lock")):
        _read_database(database)
        client = MlflowClient(tracking_uri=uri)
        if client.get_experiment_by_name(experiment) is None:
            artifacts = (database.parent / "mlartifacts").as_uri()
            client.create_experiment(experiment, artifact_location=artifacts)


def connect(uri: str, *, experiment: str) -> "tuple[MlflowClient, str]":
    """Returns a client of a store that answers, and the id of the experiment, which is made where it is missing.

    Raises:
        Exception: See ``open_store``.
    """
    from mlflow import MlflowClient

    open_store(uri, experiment=experiment)
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(experiment)
    return client, client.create_experiment(experiment) if known is None else known.experiment_id


def _read_database(database: Path) -> None:
    """Reads the tables' names: MLflow would try a file that is no database for minutes."""
    if database.is_file():
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("select name from sqlite_master").fetchall()


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Lets one process at a time into its block; the lock's file is made where it is missing."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def in_no_time() -> Iterator[None]:
    """Lets what its body asks a store that has failed already fail again without waiting."""
    with _environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}):
        yield


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def process_tags() -> dict[str, str]:
    """Returns which process a run belongs to: its host and its numbering of processes, its number, when it started.

    Empty where the system has no ``/proc``: nobody could tell later whether the process is gone.
    """
    if not Path("/proc/self/stat").exists():
        return {}
    return {HOST: _host(), PID: str(os.getpid()), STARTED: str(_started(os.getpid()))}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Says whether the process that ``process_tags`` named is known to have ended: only of one on this host."""
    if HOST not in tags or tags[HOST] != _host():
        return False
    return _started(int(tags[PID])) != tags.get(STARTED)  # a number is given again to a later process


def end_stale_runs(client: "MlflowClient", experiment_id: str) -> list[str]:
    """Ends an experiment's runs that MLflow takes for running though their process was killed; returns their names."""
    if not process_tags():
        return []
    condition = f"attributes.status = 'RUNNING' AND tags.`{HOST}` = '{_host()}'"
    ended = []
    for run in client.search_runs([experiment_id], filter_string=condition):
        if is_gone(run.data.tags):
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(run.info.run_name)
    return ended


def _host() -> str:
    """Returns the host with the namespace of its process numbers: containers may share a name, and not the numbers."""
    return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"


def _started(pid: int) -> str | None:
    """Returns when a process started, in ticks since the machine did; None if there is none of that number."""
    try:
        # The process's name comes second, in brackets, and may hold brackets and spaces itself.
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if state in "ZX" else facts[18]
