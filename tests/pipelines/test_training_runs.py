"""Training through real sessions when something goes wrong: nothing is lost, and nothing foreign is taken."""

import json
from pathlib import Path

import pytest

from gmail_kedro.engine import loop

MODELS, REPORTS = "data/06_models", "data/08_reporting"


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """The steps that are taken, by any training."""
    taken, take = [], loop._take_step

    def counted(step, index, *args):
        taken.append(index)
        return take(step, index, *args)

    monkeypatch.setattr(loop, "_take_step", counted)
    return taken


def put_in_the_way(path: Path) -> None:
    """Where a file is to be written is a folder, and the other way round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if path.suffix == ".csv" else path.touch()


@pytest.mark.reliability(5)
def test_what_could_not_be_stored_is_stored_later_and_not_trained_again(project, run_in, monkeypatch, steps):
    monkeypatch.chdir(project)
    models, reports = project / MODELS / "unstored", project / REPORTS / "unstored"
    for pipeline, state, in_the_way, left in (
        ("align", "alignment", models / "adapter.unfinished", 0),
        ("downstream", "captioner", reports / "captioner_history.csv", 4),  # the text tower's, which came after
    ):
        put_in_the_way(in_the_way)
        with pytest.raises(Exception, match=in_the_way.stem):
            run_in(project, pipeline, run_id="unstored")
        assert (models / f"checkpoints/{state}.safetensors").is_file() and len(steps) > 4
        in_the_way.rmdir() if in_the_way.is_dir() else in_the_way.unlink()
        steps.clear()
        run_in(project, pipeline, run_id="unstored")
        assert len(steps) == left and not list((models / "checkpoints").iterdir())
    for name in ("adapter/adapter_model.safetensors", "captioner/prefix_mapper.safetensors"):
        assert (models / name).read_bytes() == (project / MODELS / "main" / name).read_bytes()


def test_a_set_made_anew_or_another_one_is_refused_beside_what_was_trained_on_it(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_in(project, "generation", set="other", generation={"steps": 1})
    run_in(project, "pairing", set="other")
    take = loop._take_step

    def stop(step, index, *args):
        if index == 3:
            raise RuntimeError("stopped")
        return take(step, index, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_take_step", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            run_in(project, "align", set="other", run_id="anew")
    run_in(project, "generation", set="other", generation={"steps": 3})
    with pytest.raises(ValueError, match="alignment.safetensors belongs to another run: generated set was"):
        run_in(project, "align", set="other", run_id="anew")

    # An evaluation names the student's own set, or nothing is measured.
    scores = project / REPORTS / "main/scores.json"
    described = json.loads((project / "data/02_intermediate/mini_sd/shards/set.json").read_text())
    protocol, before = json.loads(scores.read_text())["protocol"], scores.stat().st_mtime_ns
    assert protocol["aligned_on"]["name"] == "mini_sd"
    assert protocol["aligned_on"]["fingerprint"] == protocol["generated_set"] == described["fingerprint"]
    for pipeline in ("evaluation", "downstream"):
        with pytest.raises(ValueError, match="aligned on the generated set 'mini_sd' .* Got 'other'"):
            run_in(project, pipeline, set="other", run_id="main")
    assert scores.stat().st_mtime_ns == before
