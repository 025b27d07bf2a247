"""One Kedro run is one MLflow run, whatever becomes of it: toy runs through real sessions and the real plug-in."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

SETTINGS = "from gmail_kedro.settings import CONFIG_LOADER_ARGS, DISABLE_HOOKS_FOR_PLUGINS, HOOKS\n"

REGISTRY = """
import os
import signal
from pathlib import Path

import pandas as pd
from kedro.pipeline import Pipeline, node

def train(steps: int, ending: str, hub: dict):
    if ending == "fail":
        raise ValueError("asked to fail")
    if ending == "interrupt":
        raise KeyboardInterrupt
    if ending == "damage":
        for file in Path(os.environ["STORE"]).parent.glob("damaged.db*"):
            file.write_bytes(b"no database" * 1000)
    if ending in ("SIGTERM", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, ending))
    return pd.DataFrame({"step": range(steps), "loss": 1.0}), {"scores": {"cider": 61.0}}, {"weights": "abc"}

def report(scores: dict):
    return "a figure"

def register_pipelines():
    nodes = [
        node(train, ["params:steps", "params:ending", "params:hub"], ["alignment_history", "scores", "lineage"]),
        node(report, "scores", "tsne_figure"),
    ]
    return {"__default__": Pipeline(nodes)}
"""

CATALOG = """
scores: {type: json.JSONDataset, filepath: data/scores.json}
tsne_figure: {type: text.TextDataset, filepath: data/tsne.txt}
"""

TABLES = """
tables:
  6: {title: Ablation, rows: {without: {run: frozen}, with: {run: gmail}}}
"""

RUN_ALL = """
import os
import sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

root = Path(sys.argv[1])
bootstrap_project(root)
for run in sys.argv[2:]:
    run_id, ending, store = run.split(",")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if store:
        os.environ["MLFLOW_TRACKING_URI"] = store
    try:
        with KedroSession.create(root, runtime_params={"run_id": run_id, "ending": ending}) as session:
            session.run()
    except ValueError:
        pass
"""


RUNS = ("repro/gmail-3,finish,", "finish,finish,", "fail,fail,", "finish_again,finish,", "interrupt,interrupt,")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A project of two nodes with the settings of this one."""
    root = tmp_path_factory.mktemp("toy")
    package, conf = root / "src" / "toy", root / "conf" / "base"
    package.mkdir(parents=True)
    conf.mkdir(parents=True)
    (root / "conf" / "local").mkdir()
    for name, text in (("__init__", ""), ("settings", SETTINGS), ("pipeline_registry", REGISTRY)):
        (package / f"{name}.py").write_text(text)
    (root / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "toy"\nproject_name = "toy"\nkedro_init_version = "1.7.0"\nsource_dir = "src"\n'
    )
    (root / ".telemetry").write_text("consent: false\n")
    (conf / "catalog.yml").write_text(CATALOG)
    (conf / "parameters.yml").write_text("steps: 3\nending: finish\nhub: {hf_token: abcdefgh}\n")
    (conf / "tables.yml").write_text(TABLES)
    shutil.copy(repository / "conf" / "base" / "mlflow.yml", conf)
    (root / "elsewhere").mkdir()
    return root


def run_toy(root: Path, *runs: str) -> subprocess.CompletedProcess:
    """Runs sessions in one process: the run id, how it ends, and the store, or nothing for the project's own."""
    here = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    environment = here | {"PATH": "", "HOME": str(root), "STORE": str(root / "mlflow.db")}
    command = [sys.executable, "-c", RUN_ALL, str(root), *runs]
    return subprocess.run(command, cwd=root / "elsewhere", env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def runs(toy: Path) -> dict[str, SimpleNamespace]:
    """Four runs in one process, by run id, as the store tells of them afterwards."""
    finished = run_toy(toy, *RUNS)
    assert "KeyboardInterrupt" in finished.stderr, finished.stderr
    assert list((toy / "elsewhere").iterdir()) == []
    return read_runs(toy)


def read_runs(root: Path) -> dict[str, SimpleNamespace]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gmail_kedro")
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        history = client.get_metric_history(run.info.run_id, "alignment/loss")
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        found[run.data.tags["run_name"]] = SimpleNamespace(
            id=run.info.run_id,
            status=run.info.status,
            name=run.info.run_name,
            data=run.data,
            history=history,
            files=files,
        )
    return found


def test_each_run_is_recorded_as_it_ended(runs: dict[str, SimpleNamespace]):
    assert {name: run.status for name, run in runs.items()} == {
        "finish": "FINISHED",
        "fail": "FAILED",
        "finish_again": "FINISHED",
        "repro/gmail-3": "FINISHED",
        "reproduction": "FINISHED",
        "interrupt": "KILLED",
    }


@pytest.mark.parametrize("name", ["finish", "finish_again"])
def test_a_run_keeps_what_its_nodes_gave(runs: dict[str, SimpleNamespace], name: str):
    run = runs[name]
    assert run.name == f"{name} (default)"
    assert sorted(metric.step for metric in run.history) == [0, 1, 2]
    assert run.data.metrics["cider"] == 61.0
    assert run.data.params["steps"] == "3"
    assert run.data.tags["weights"] == "abc"
    assert run.files == ["scores.json", "tsne.txt"]


def test_a_run_of_the_matrix_carries_its_rows_and_hangs_under_the_reproduction(runs: dict[str, SimpleNamespace]):
    tags = runs["repro/gmail-3"].data.tags
    assert {name: tags[name] for name in ("reproduction", "repro", "seed", "tables", "row.6")} == {
        "reproduction": "repro",
        "repro": "gmail",
        "seed": "3",
        "tables": "6",
        "row.6": "with",
    }
    assert tags["mlflow.parentRunId"] == runs["reproduction"].id
    assert "tables" not in runs["finish"].data.tags


@pytest.mark.reliability(32)
def test_a_secret_of_the_parameters_is_in_no_record(toy: Path, runs: dict[str, SimpleNamespace]):
    assert runs["finish"].data.params["hub.hf_token"] == "***"
    assert "abcdefgh" not in str([(run.data.params, run.data.tags) for run in runs.values()])
    assert b"abcdefgh" not in (toy / "mlflow.db").read_bytes()


@pytest.mark.reliability(30)
def test_a_run_goes_on_whatever_becomes_of_its_store(toy: Path, runs: dict[str, SimpleNamespace]):
    """A folder of files, a damaged database, a server that is not there, and a database that is damaged in mid run."""
    (toy / "no.db").write_bytes(b"no database" * 1000)
    stores = {
        "files": f"file://{toy}/mlruns",
        "database": f"sqlite:///{toy}/no.db",
        "server": "http://me:word@127.0.0.1:9",
        "later": f"sqlite:///{toy}/damaged.db",
    }
    endings = {"files": "finish", "database": "fail", "server": "finish", "later": "damage"}
    words = [f"{name},{endings[name]},{store}" for name, store in stores.items()]
    start = time.monotonic()
    finished = run_toy(toy, *words)
    assert finished.returncode == 0, finished.stderr
    assert time.monotonic() - start < 120
    said = " ".join((finished.stdout + finished.stderr).split())  # lines are wrapped
    assert said.count("The run goes on, and its record is in") == 4
    assert "word@" not in said
    from gmail_kedro.tracking.mlflow_store import connect, default_uri
    from gmail_kedro.tracking.pending_records import FOLDER, import_journal, pending_journals

    client, experiment_id = connect(default_uri(toy), experiment="gmail_kedro")
    waiting = pending_journals(toy / FOLDER)
    assert len(waiting) == 4
    for path in waiting[:3]:  # the fourth goes on with a run of a store that is gone
        import_journal(path, client, experiment_id)
    found = read_runs(toy)
    assert {name: found[name].status for name in stores if name != "later"} == {
        "files": "FINISHED",
        "database": "FAILED",
        "server": "FINISHED",
    }
    assert sorted(metric.step for metric in found["server"].history) == [0, 1, 2]
    assert found["server"].files == ["scores.json", "tsne.txt"] and found["server"].data.metrics["cider"] == 61.0


@pytest.mark.reliability(31)
def test_a_run_that_is_asked_to_stop_ends_as_killed_and_so_does_one_that_was_killed(
    toy: Path, runs: dict[str, SimpleNamespace]
):
    assert run_toy(toy, "dead,SIGKILL,").returncode == -signal.SIGKILL
    assert read_runs(toy)["dead"].status == "RUNNING"
    assert run_toy(toy, "stopped,SIGTERM,").returncode == os.EX_TEMPFAIL
    found = read_runs(toy)
    assert found["stopped"].status == "KILLED"
    assert found["dead"].status == "KILLED"  # ended by the start of the next run
