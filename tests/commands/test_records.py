"""`gmail-kedro import-runs`: what waits is imported, what is no record is named."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gmail_kedro.commands.records import import_runs
from gmail_kedro.tracking.mlflow_store import connect, default_uri
from gmail_kedro.tracking.pending_records import FOLDER, Journal


@pytest.mark.reliability(30)
def test_records_that_wait_become_runs_of_the_projects_store(tmp_path: Path, capsys: pytest.CaptureFixture):
    settings = {"server": {"mlflow_tracking_uri": default_uri(tmp_path)}, "tracking": {"experiment": {"name": "mine"}}}
    project = SimpleNamespace(root=tmp_path, tracking=lambda: settings)
    assert import_runs(project) == 0
    assert capsys.readouterr().out == "No record of a run waits to be imported.\n"

    journal = Journal(tmp_path / FOLDER, "http://example.org")
    journal.leave_store(ConnectionError())
    journal.write({"tags": {"mlflow.runName": "main (default)"}})
    journal.finish("FINISHED")
    (tmp_path / FOLDER / "a.jsonl").write_text("[]\n")
    assert import_runs(project) == 1
    client, experiment_id = connect(default_uri(tmp_path), experiment="mine")
    (run,) = client.search_runs([experiment_id])
    assert (run.info.run_name, run.info.status) == ("main (default)", "FINISHED")
    said = capsys.readouterr().out
    assert f"is run {run.info.run_id} now" in said and "a.jsonl is no record of a run" in said
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["a.jsonl"]


@pytest.mark.reliability(30)
def test_a_store_that_cannot_be_used_is_named_and_the_advice_works(tmp_path: Path):
    project = SimpleNamespace(
        root=tmp_path,
        tracking=lambda: {
            "server": {"mlflow_tracking_uri": default_uri(tmp_path)},
            "tracking": {"experiment": {"name": "mine"}},
        },
    )
    journal = Journal(tmp_path / FOLDER, "http://example.org")
    journal.leave_store(ConnectionError())
    journal.finish("FINISHED")
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(RuntimeError, match=r"sqlite:.*mlflow\.db must answer.*not a database.*The 1 records stay"):
        import_runs(project)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    database.rename(tmp_path / "mlflow.damaged")
    assert import_runs(project) == 0
