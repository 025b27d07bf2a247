"""Runs of the matrix carry their tables, hang under one parent, and links select them for comparison."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from gmail_kedro.tracking.mlflow_store import open_store
from gmail_kedro.tracking.table_links import (
    PARENT,
    links_text,
    matrix_tags,
    parent_run,
    project_links,
    table_links,
)

pytestmark = pytest.mark.slow
DEFINITIONS: dict[int, dict[str, Any]] = {
    1: {"title": "Captioning", "rows": {"ClipCap": {"run": "frozen"}, "ClipCap + GMAIL": {"run": "gmail"}}},
    6: {
        "title": "Ablation",
        "rows": {"without": {"run": "frozen"}, "with": {"run": "gmail"}, "again": {"run": "gmail"}},
    },
    10: {"title": "ScienceQA", "rows": {"LLaVA": {"run": "llava"}, "blocked": {"blocked": "no weights"}}},
    106: {"title": "Seeds", "rows": {"seed 1": {"run": "gmail", "seeds": [1]}, "frozen": {"run": "frozen"}}},
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store; making its tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    open_store(uri, experiment="unused")
    return uri


@pytest.fixture
def store(address: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """A client of the store, with an experiment of the test's own name."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    client = MlflowClient(tracking_uri=address)
    return client, client.create_experiment(request.node.name)


def record(client: Any, experiment_id: str, run_name: str, *, status: str = "FINISHED", start: int = 1) -> str:
    tags = matrix_tags(run_name, DEFINITIONS)
    run = client.create_run(experiment_id, start_time=start, tags=tags, run_name=run_name)
    client.log_metric(run.info.run_id, "captioning/cider", 60.0 + start)
    client.set_terminated(run.info.run_id, status)
    return run.info.run_id


def selected(link: str) -> list[str]:
    query = parse_qs(urlsplit(link.replace("/#", "")).query)
    return json.loads(query["runs"][0])


def test_a_run_knows_every_row_it_is():
    assert matrix_tags("repro/gmail-0", DEFINITIONS) == {
        "reproduction": "repro",
        "repro": "gmail",
        "seed": "0",
        "tables": "1,6",
        "row.1": "ClipCap + GMAIL",
        "row.6": "with; again",
    }
    assert matrix_tags("repro/gmail-1", DEFINITIONS)["row.106"] == "seed 1"
    unused = {"reproduction": "repro_paper", "repro": "unused", "seed": "12", "tables": ""}
    assert matrix_tags("repro_paper/unused-12", DEFINITIONS) == unused
    assert matrix_tags("main", DEFINITIONS) == matrix_tags("study/final/gmail-0", DEFINITIONS) == {}


def test_the_parent_is_made_once_by_however_many_runs(store: tuple[Any, str], address: str):
    client, experiment_id = store
    with ThreadPoolExecutor(4) as threads:
        parents = set(threads.map(lambda _: parent_run(client, experiment_id, address), range(8)))
    assert len(parents) == 1
    (run,) = client.search_runs([experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (*parents, PARENT, "FINISHED")


def test_a_link_selects_the_newest_finished_run_of_every_row(store: tuple[Any, str]):
    client, experiment_id = store
    frozen = record(client, experiment_id, "repro/frozen-0")
    record(client, experiment_id, "repro/gmail-0", start=1)
    newest = record(client, experiment_id, "repro/gmail-0", start=2)
    record(client, experiment_id, "repro/gmail-0", start=3, status="FAILED")
    other_seed = record(client, experiment_id, "repro/gmail-1")
    record(client, experiment_id, "main")
    links = {link.table: link for link in table_links(client, experiment_id, DEFINITIONS)}
    assert list(links) == [1, 6, 106]  # of table 10 nothing ran
    assert selected(links[1].compare) == [frozen, newest, other_seed]
    assert links[1].compare.startswith("http://127.0.0.1:5000/#/compare-runs?runs=")
    assert selected(links[1].compare) == selected(links[6].compare)
    condition = unquote(links[6].filtered.partition("searchFilter=")[2])
    found = client.search_runs([experiment_id], filter_string=condition)
    assert {run.data.tags["row.6"] for run in found} == {"without", "with; again"}


def test_the_links_of_a_project_are_lines_for_a_terminal(store: tuple[Any, str], tmp_path: Path):
    client, experiment_id = store
    experiment = client.get_experiment(experiment_id).name
    assert "no two finished runs" in project_links(tmp_path, experiment, DEFINITIONS)
    for name in ("repro/frozen-0", "repro/gmail-0"):
        record(client, experiment_id, name)
    told = project_links(tmp_path, experiment, DEFINITIONS)
    assert "Table 1, Captioning (2 runs)\n  compare  http://127.0.0.1:5000/#/" in told
    assert "no two finished" in project_links(tmp_path, experiment, DEFINITIONS, reproduction="repro_paper")
    with pytest.raises(ValueError, match="has no experiment 'other'"):
        project_links(tmp_path, "other", DEFINITIONS)


def test_each_profiles_runs_are_compared_among_themselves(store: tuple[Any, str]):
    client, experiment_id = store
    for name in ("repro/frozen-0", "repro/gmail-0", "repro_paper/gmail-0"):
        record(client, experiment_id, name)
    frozen = record(client, experiment_id, "repro_paper/frozen-0")
    (link, *_) = table_links(client, experiment_id, DEFINITIONS, reproduction="repro_paper")
    assert frozen in selected(link.compare) and len(selected(link.compare)) == 2
    condition = unquote(link.filtered.partition("searchFilter=")[2])
    found = client.search_runs([experiment_id], filter_string=condition)
    assert {run.info.run_id for run in found} == set(selected(link.compare))


def test_a_run_that_mlflow_lacks_is_named(store: tuple[Any, str]):
    client, experiment_id = store
    definitions = {1: {"title": "T", "rows": {name: {"run": name} for name in ("frozen", "gmail", "absent")}}}
    for name in ("frozen", "gmail"):
        record(client, experiment_id, f"repro/{name}-0")
    assert "(2 runs, not in MLflow: absent)" in links_text(table_links(client, experiment_id, definitions))
