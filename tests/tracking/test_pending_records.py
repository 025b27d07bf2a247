"""Reliability test 30: where MLflow fails, the record goes on in a file, and can be brought into a store later."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from gmail_kedro.tracking.mlflow_store import default_uri, open_store, process_tags
from gmail_kedro.tracking.pending_records import Journal, import_journal, pending_journals
from gmail_kedro.tracking.run_record import history_entry, parameters_entry, path_entry, scores_entry, tags_entry

pytestmark = pytest.mark.reliability(30)
URI = "https://me:word@example.org"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    from mlflow import MlflowClient

    uri = default_uri(tmp_path_factory.mktemp("store"))
    open_store(uri, experiment="gmail_kedro")
    client = MlflowClient(uri)
    return SimpleNamespace(client=client, experiment=client.get_experiment_by_name("gmail_kedro").experiment_id)


class DiesAfter:
    """A client whose store fails after a number of calls."""

    def __init__(self, client, count: int) -> None:
        self._client, self.left = client, count

    def __getattr__(self, name: str):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the server is gone\nwith a second line")
        return getattr(self._client, name)


def record(journal: Journal, folder: Path) -> None:
    """What a run of a minute writes."""
    (folder / "scores.json").write_text("{}")
    journal.write(tags_entry({"run_name": "main"}))
    journal.write(parameters_entry({"alignment": {"training": {"steps": 3}}}))
    journal.write(history_entry("alignment", pd.DataFrame({"step": range(3), "loss": [3.0, 2.0, 1.0]})))
    journal.write(scores_entry({"cider": 61.0}))
    journal.write(path_entry(folder / "scores.json"))
    journal.finish("FINISHED")


def check(store: SimpleNamespace, run_id: str) -> None:
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"alignment.training.steps": "3"}
    assert run.data.metrics == {"alignment/loss": 1.0, "cider": 61.0} and run.data.tags["run_name"] == "main"
    history = store.client.get_metric_history(run_id, "alignment/loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert [file.path for file in store.client.list_artifacts(run_id)] == ["scores.json"]


def test_a_record_without_a_store_becomes_a_run_later(store, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    journal = Journal(tmp_path / "pending", URI)
    with caplog.at_level(logging.WARNING):
        journal.leave_store(ConnectionError("refused"))
        record(journal, tmp_path)
    (said,) = caplog.messages
    assert said.startswith("MLflow's store https://***@example.org cannot be used (ConnectionError: refused).")
    assert f"its record is in {journal.path}" in said and said.endswith("gmail-kedro import-runs")
    (path,) = pending_journals(tmp_path / "pending")
    words = import_journal(path, store.client, store.experiment)
    assert pending_journals(tmp_path / "pending") == []
    check(store, words.split()[2])


@pytest.mark.parametrize("count", range(5))
def test_a_store_that_dies_in_mid_run_has_the_whole_run_later(store, tmp_path: Path, caplog, count: int):
    run_id = store.client.create_run(store.experiment).info.run_id
    journal = Journal(tmp_path / "pending", URI, DiesAfter(store.client, count), run_id)
    record(journal, tmp_path)
    assert len(caplog.messages) == 1 and "ConnectionError: the server is gone). The run goes on" in caplog.text
    (path,) = pending_journals(tmp_path / "pending")
    assert import_journal(path, store.client, store.experiment) == f"is run {run_id} now"
    check(store, run_id)


def test_an_import_that_fails_can_be_done_again(store, tmp_path: Path):
    journal = Journal(tmp_path / "pending", URI)
    journal.leave_store(ConnectionError())
    record(journal, tmp_path)
    for count in range(1, 6):
        with pytest.raises(ConnectionError):
            import_journal(journal.path, DiesAfter(store.client, count), store.experiment)
    before = len(store.client.search_runs([store.experiment]))
    check(store, import_journal(journal.path, store.client, store.experiment).split()[2])
    assert len(store.client.search_runs([store.experiment])) == before  # all went on with one run


def test_what_mlflow_refuses_does_not_end_its_use(store, tmp_path: Path):
    run_id = store.client.create_run(store.experiment).info.run_id
    journal = Journal(tmp_path / "pending", URI, store.client, run_id)
    journal.write({"params": {"a": "1"}})
    with pytest.raises(Exception, match="Changing param values"):
        journal.write({"params": {"a": "2"}})
    assert journal.is_live and not pending_journals(tmp_path / "pending")
    waiting = Journal(tmp_path / "pending", URI, run_id=run_id)
    waiting.leave_store(ConnectionError())
    waiting.write({"params": {"a": "2"}})
    waiting.write({"path": str(tmp_path / "gone.json")})
    waiting.write({"tags": {"b": "3"}})
    waiting.finish("FAILED")
    words = import_journal(waiting.path, store.client, store.experiment)
    assert "without what was refused" in words and "gone.json is not there any more" in words
    assert store.client.get_run(run_id).data.tags["b"] == "3"


def test_a_run_that_was_killed_ends_as_killed_and_one_that_lives_is_left_alone(store, tmp_path: Path):
    journal = Journal(tmp_path / "pending", URI)
    journal.leave_store(ConnectionError())
    journal.write({"params": {"a": "1"}})
    assert import_journal(journal.path, store.client, store.experiment) == "is still being written, or on another host"
    head, rest = journal.path.read_text().split("\n", 1)
    dead = json.loads(head) | {"process": process_tags() | {"process.started": "1"}}
    journal.path.write_text(json.dumps(dead) + "\n" + rest + '{"params": {"b"')  # as a kill leaves it
    run = store.client.get_run(import_journal(journal.path, store.client, store.experiment).split()[2])
    assert run.info.status == "KILLED" and run.data.params == {"a": "1"}


def test_a_file_that_is_no_record_is_named(store, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"a\.jsonl is no record of a run"):
        import_journal(tmp_path / "a.jsonl", store.client, store.experiment)
