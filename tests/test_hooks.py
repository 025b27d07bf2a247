"""One Kedro run is one MLflow run, whatever becomes of it: toy runs through real sessions and the real plug-in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SETTINGS = "from gmail_kedro.settings import CONFIG_LOADER_ARGS, HOOKS\n"

REGISTRY = """
import pandas as pd
from kedro.pipeline import Pipeline, node

def train(steps: int, ending: str):
    if ending == "fail":
        raise ValueError("asked to fail")
    if ending == "interrupt":
        raise KeyboardInterrupt
    return pd.DataFrame({"step": range(steps), "loss": 1.0}), {"scores": {"cider": 61.0}}, {"weights": "abc"}

def report(scores: dict):
    return "a figure"

def register_pipelines():
    nodes = [
        node(train, ["params:steps", "params:ending"], ["alignment_history", "scores", "lineage"]),
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
import sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

root = Path(sys.argv[1])
bootstrap_project(root)
runs = {name: name for name in ("finish", "fail", "finish_again", "interrupt")}
runs = {"repro/gmail-3": "finish"} | runs
for run_id, ending in runs.items():
    try:
        with KedroSession.create(root, runtime_params={"run_id": run_id, "ending": ending}) as session:
            session.run()
    except ValueError:
        pass
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[str, SimpleNamespace]:
    """Four runs in one process, by run id, as the store tells of them afterwards."""
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
    (conf / "parameters.yml").write_text("steps: 3\nending: finish\n")
    (conf / "tables.yml").write_text(TABLES)
    shutil.copy(repository / "conf" / "base" / "mlflow.yml", conf)

    here = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    environment = here | {"PATH": "", "HOME": str(root)}  # without MLFLOW_TRACKING_URI: the project's own store
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", RUN_ALL, str(root)]
    finished = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert "KeyboardInterrupt" in finished.stderr, finished.stderr
    assert list(elsewhere.iterdir()) == []
    return read_runs(root)


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
