"""A store that cannot be used says so within seconds, and runs of killed processes are ended."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gmail_kedro.tracking.mlflow_store import default_uri, end_stale_runs, is_gone, open_store, process_tags

RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


class Broken(BaseHTTPRequestHandler):
    """A server that answers everything with 500."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_error(500)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def broken_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def no_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@pytest.mark.reliability(30)
@pytest.mark.parametrize("server", [broken_server, no_server, silent_server])
def test_a_server_that_does_not_work_is_known_within_seconds(server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gmail_kedro.tracking.mlflow_store.FIRST_CALL", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"} | RETRIES)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    with server() as uri:
        start = time.monotonic()
        with pytest.raises(Exception, match="500|refused|timed out"):
            open_store(uri, experiment="gmail_kedro")
        assert time.monotonic() - start < 10
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"


@pytest.mark.reliability(30)
def test_a_damaged_database_is_known_at_once(tmp_path: Path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    start = time.monotonic()
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        open_store(default_uri(tmp_path), experiment="gmail_kedro")
    assert time.monotonic() - start < 5


@pytest.mark.reliability(30)
@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_store_of_files_gets_advice(tmp_path: Path, form: str):
    with pytest.raises(ValueError, match=r"MLFLOW_TRACKING_URI=sqlite:///mlflow.db, .* `mlflow migrate-filestore`"):
        open_store(form.format(tmp_path / "mlruns"), experiment="gmail_kedro")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_open_one_store_at_once(tmp_path: Path):
    uri = default_uri(tmp_path)
    program = f"from gmail_kedro.tracking.mlflow_store import open_store; open_store({uri!r}, experiment='gmail_kedro')"
    started = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode)[1] for process in started] == [0, 0]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = database.execute("select name from experiments where name = 'gmail_kedro'").fetchall()
    assert names == [("gmail_kedro",)]


def tags_of_a_process() -> tuple[dict[str, str], subprocess.Popen]:
    program = (
        "import json, sys; from gmail_kedro.tracking.mlflow_store import process_tags; "
        "print(json.dumps(process_tags())); "
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program + "sys.stdout.flush(); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(process.stdout.readline()), process


def test_runs_of_killed_processes_end_and_those_of_others_go_on(tmp_path: Path):
    from mlflow import MlflowClient

    uri = default_uri(tmp_path)
    open_store(uri, experiment="gmail_kedro")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("gmail_kedro").experiment_id
    theirs, process = tags_of_a_process()
    tags = {
        "killed": theirs,
        "ours": process_tags(),
        "elsewhere": theirs | {"process.host": "another"},
        "of another kind": {},
        "another process of that number": process_tags() | {"process.started": "1"},
    }
    runs = {name: client.create_run(experiment, tags=own, run_name=name).info.run_id for name, own in tags.items()}
    assert not is_gone(theirs)
    assert end_stale_runs(client, experiment) == ["another process of that number"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert is_gone(theirs)
    assert end_stale_runs(client, experiment) == ["killed"]
    found = {name: client.get_run(run_id).info.status for name, run_id in runs.items()}
    assert [name for name, status in found.items() if status == "KILLED"] == [
        "killed",
        "another process of that number",
    ]
