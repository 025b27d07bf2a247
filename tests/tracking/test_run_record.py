"""What is recorded in MLflow, and that failing to record never stops a run."""

import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.hooks.input_hooks import refuse_splitting
from gmail_kedro.hooks.tracking_hooks import TrackingHooks
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params.base import NestedParams
from gmail_kedro.tracking import run_record
from gmail_kedro.tracking.mlflow_store import default_uri, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = default_uri(tmp_path_factory.mktemp("project"))
    open_store(uri, experiment="gmail_kedro")
    return uri


@pytest.fixture
def run(store: str):
    """A function that writes entries into a new run, and one that reads the run back."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    run_id = client.create_run(client.get_experiment_by_name("gmail_kedro").experiment_id).info.run_id
    return SimpleNamespace(
        client=client,
        id=run_id,
        write=lambda entry: run_record.apply_entry(client, run_id, entry),
        data=lambda: client.get_run(run_id).data,
    )


def test_parameters_are_flattened_by_dotted_name():
    class Lora(NestedParams):
        rank: int
        targets: list[str]

    class Group(NestedParams):
        lora: Lora

    groups = {"alignment": Group(lora=Lora(rank=4, targets=["attn"])), "run_id": "main", "nested": {"a": {"b": None}}}
    assert run_record.flatten_parameters(groups) == {
        "alignment.lora.rank": "4",
        "alignment.lora.targets": "['attn']",
        "run_id": "main",
        "nested.a.b": "None",
    }


def test_scores_are_flattened_and_what_is_no_number_is_left_out():
    scores = {
        "captioning": {
            "scores": {"cider": 61.0, "meteor": None},
            "intervals": {"cider": {"mean": 60.0, "low": 58.0, "high": 64.0}},
            "unavailable": {"meteor": "Java is not installed"},
        },
        "gap": {"paired_cosine": {"mean": np.float32(0.5), "low": 0.25}, "is_final": True, "curve": [1.0, 2.0]},
    }
    assert run_record.flatten_scores(scores) == {
        "captioning/cider": 61.0,
        "captioning/cider/low": 58.0,
        "captioning/cider/high": 64.0,
        "gap/paired_cosine": 0.5,
        "gap/paired_cosine/low": 0.25,
    }


def test_names_that_mlflow_refuses_are_mended():
    assert run_record.flatten_scores({"R@1 (%)": 50.0}) == {"R_1 ___": 50.0}


@pytest.mark.reliability(32)
def test_secrets_are_in_no_parameter_and_no_tag(run: SimpleNamespace):
    run.write(
        run_record.parameters_entry(
            {"hub": {"hf_token": "abc", "url": "https://me:word@example.org"}, "max_tokens": 32}
        )
    )
    run.write(run_record.tags_entry({"source": "https://me:word@example.org/a.git"}))
    assert run.data().params == {"hub.hf_token": "***", "hub.url": "https://***@example.org", "max_tokens": "32"}
    assert run.data().tags["source"] == "https://***@example.org/a.git"


def test_a_history_becomes_points_in_time():
    history = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0], "val_loss": [np.nan, 1.5], "seconds": [1.0, 3.0]})
    points = run_record.history_points("alignment", history, ended=100.0)
    assert ("alignment/loss", 2.0, 0, 98000) in points
    assert ("alignment/loss", 1.0, 1, 100000) in points
    assert [point for point in points if point.name == "alignment/val_loss"] == [("alignment/val_loss", 1.5, 1, 100000)]


def test_a_text_column_of_a_history_names_its_curves():
    history = pd.DataFrame({"variant": ["frozen", "real"], "step": [0, 0], "loss": [2.0, 1.0]})
    points = run_record.history_points("captioner", history, ended=0.0)
    assert [(point.name, point.value) for point in points] == [
        ("captioner/frozen/loss", 2.0),
        ("captioner/real/loss", 1.0),
    ]


def test_an_empty_history_has_no_points():
    assert run_record.history_points("alignment", pd.DataFrame({"step": [], "loss": []}), ended=0.0) == []


@pytest.mark.parametrize(
    ("name", "value", "tags"),
    [
        ("lineage", {"weights": "abc"}, {"weights": "abc"}),
        ("generated_images", SimpleNamespace(fingerprint="abc"), {"generated_set": "abc"}),
        ("adapter", SimpleNamespace(fingerprint="abc"), {"adapter": "abc"}),
        ("pairs", pd.DataFrame({"fingerprint": ["abc"]}), {}),
        ("scores", {"weights": "abc"}, {}),
    ],
)
def test_lineage_comes_from_what_knows_its_fingerprint(name: str, value: object, tags: dict[str, str]):
    assert run_record.lineage_of(name, value) == tags


@pytest.mark.reliability(12)
def test_what_a_corpus_left_out_is_told():
    """Peers test 12: skipped entries are written to the run record."""
    corpus = Corpus("own", captions=None, images=None, labels={}, skipped={"blank caption": 3, "no file name": 1})
    told = {"corpus_skipped": "blank caption: 3, no file name: 1"}
    assert run_record.lineage_of("corpus", corpus) == told
    assert run_record.lineage_of("corpus", Corpus("own", captions=None, images=None, labels={})) == {}


def test_git_state_names_the_commit_and_tells_changes(tmp_path: Path):
    assert run_record.git_state(tmp_path) == {}
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "--message=first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    state = run_record.git_state(tmp_path)
    assert len(state["git_commit"]) == 40
    assert state["git_dirty"] == "false"
    (tmp_path / "new").touch()
    assert run_record.git_state(tmp_path)["git_dirty"] == "true"


def test_a_long_history_is_recorded_step_by_step(run: SimpleNamespace):
    count = 1010  # a store takes a thousand a call
    history = pd.DataFrame({"step": range(count), "loss": np.linspace(2, 1, count), "seconds": np.arange(count)})
    run.write(run_record.history_entry("alignment", history))
    stored = sorted(run.client.get_metric_history(run.id, "alignment/loss"), key=lambda metric: metric.step)
    assert [metric.step for metric in stored] == list(range(count))
    assert [metric.value for metric in stored] == list(history["loss"])


def test_parameters_scores_tags_and_files_are_recorded(run: SimpleNamespace, store: str, tmp_path: Path):
    many = {f"key_{index}": index for index in range(101)}
    run.write(run_record.parameters_entry({"alignment": many, "long": "x" * (run_record.VALUE_LIMIT + 1)}))
    run.write(run_record.scores_entry({"cider": 61.0}, prefix="coco"))
    run.write(run_record.tags_entry({"weights": "abc"}))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "scores.json").write_text("{}")
    run.write(run_record.path_entry(tmp_path / "adapter"))
    run.write(run_record.path_entry(tmp_path / "scores.json"))

    assert run.data().params["alignment.key_100"] == "100"
    assert len(run.data().params["long"]) == run_record.VALUE_LIMIT
    assert run.data().metrics == {"coco/cider": 61.0}
    assert run.data().tags["weights"] == "abc"
    artifacts = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts" / run.id / "artifacts"
    assert (artifacts / "adapter" / "adapter_config.json").is_file()
    assert (artifacts / "scores.json").is_file()


@pytest.mark.reliability(29)
@pytest.mark.parametrize("runner", ["ParallelRunner", "<kedro.runner.thread_runner.ThreadRunner object at 0x7f>"])
def test_runners_that_would_split_a_run_are_refused(runner: str):
    with pytest.raises(ValueError, match="would split this run over several MLflow runs"):
        refuse_splitting(runner)


def test_a_failure_to_record_is_a_warning(caplog: pytest.LogCaptureFixture):
    class BrokenJournal:
        def write(self, entry: object) -> None:
            raise ConnectionError("the database is locked")

    hooks = TrackingHooks()
    hooks._journal = BrokenJournal()
    with caplog.at_level(logging.WARNING):
        hooks.after_node_run(inputs={}, outputs={"alignment_history": pd.DataFrame(), "scores": {}})
    assert "MLflow did not record the curves or metrics of alignment_history; the run goes on" in caplog.text
    assert "the database is locked" in caplog.text


def test_nothing_is_recorded_without_a_run():
    TrackingHooks().after_node_run(inputs={}, outputs={"alignment_history": None})
    TrackingHooks().after_dataset_saved(dataset_name="scores")
