"""What guards a run, where no training is needed to see it; the rest is in pipelines/test_training_runs.py."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset

from gmail_kedro.hooks.run_hooks import RunLockHooks

from ..forking import fork


def hooks_in(folder):
    hooks = RunLockHooks()
    hooks.after_context_created(SimpleNamespace(project_path=folder))
    return hooks


def catalog_of(run_id, path):
    return DataCatalog({"params:run_id": MemoryDataset(run_id), "out": JSONDataset(filepath=str(path))})


@pytest.mark.reliability(31)
def test_any_pipeline_that_is_asked_to_stop_ends_as_one_that_may_go_on(tmp_path):
    def work():
        hooks_in(tmp_path).before_pipeline_run(Pipeline([]), DataCatalog())
        (tmp_path / "here").touch()
        time.sleep(60)

    child = fork(work, lambda error: error.code)
    while not (tmp_path / "here").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    ("run_id", "place", "is_held"),
    [
        ("main", "data/08_reporting/main/scores.json", True),
        ("repro/eq1-0", "data/06_models/repro/eq1-0/facts.json", True),
        ("main", "data/08_reporting/main_2/scores.json", False),
        ("main", "data/08_reporting/main.json", False),
        ("mini_sd", "data/08_reporting/tables/numbers.json", False),
        ("repro", "elsewhere/repro/scores.json", False),
    ],
)
def test_a_run_is_held_by_a_pipeline_that_writes_into_its_folders(run_id, place, is_held, tmp_path):
    pipeline, catalog = Pipeline([node(lambda: {}, None, "out")]), catalog_of(run_id, tmp_path / place)
    first, second = hooks_in(tmp_path), hooks_in(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    first.before_pipeline_run(pipeline, catalog)
    try:
        if is_held:
            with pytest.raises(RuntimeError, match=f"The run '{run_id}' is being written by process {os.getpid()}"):
                second.before_pipeline_run(pipeline, catalog)
        else:
            second.before_pipeline_run(pipeline, catalog)
            second.after_pipeline_run()
    finally:
        first.on_pipeline_error()
    assert signal.getsignal(signal.SIGTERM) == before
    second.before_pipeline_run(pipeline, catalog)
    second.after_pipeline_run()
