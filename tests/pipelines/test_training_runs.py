"""Training through real sessions when something goes wrong: nothing is lost, and nothing foreign is taken."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmail_kedro.engine import loop
from gmail_kedro.engine.run_lock import hold_run

from ..forking import fork

MODELS, REPORTS = "data/06_models", "data/08_reporting"

SLOW_CAPTIONER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import TINY
from gmail_kedro.engine import loop
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

take = loop._take_step
loop._take_step = lambda *args: (time.sleep(0.3), take(*args))[1]
project = Path(sys.argv[1])
bootstrap_project(project)
training = TINY["downstream"]["training"] | {"checkpoint_every": 1000}
parameters = {**TINY, "run_id": "stopped", "downstream": {"training": training}}
with KedroSession.create(project_path=project, runtime_params=parameters) as session:
    session.run(pipeline_names=["downstream"])
"""


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
        ("align", "alignment", models / f"adapter.{socket.gethostname()}.{os.getpid()}.partial", 0),
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


@pytest.mark.reliability(31)
def test_a_training_that_is_asked_to_stop_ends_with_75_and_the_same_command_goes_on(
    project, run_in, monkeypatch, tmp_path, steps
):
    monkeypatch.chdir(project)
    run_in(project, "align", run_id="stopped")
    script = tmp_path / "slow_captioner.py"
    script.write_text(SLOW_CAPTIONER)
    victim = subprocess.Popen(
        [sys.executable, str(script), str(project), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
    )  # fmt: skip
    assert any("parameters are trained" in line for line in victim.stdout)
    time.sleep(0.5)
    victim.send_signal(signal.SIGTERM)
    told, _ = victim.communicate(timeout=60)
    assert victim.returncode == os.EX_TEMPFAIL, told
    assert "Go on with the same command." in told
    models = project / MODELS / "stopped"
    assert (models / "checkpoints/captioner.safetensors").is_file() and not (models / "captioner").exists()
    steps.clear()
    run_in(project, "downstream", run_id="stopped", downstream={"training": {"checkpoint_every": 1000}})
    assert 0 < steps[0] < 8
    captioner = "captioner/prefix_mapper.safetensors"
    assert (models / captioner).read_bytes() == (project / MODELS / "main" / captioner).read_bytes()


def test_a_run_is_written_by_one_process_and_others_go_on_beside_it(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    lock = project / "data/.locks/held.lock"

    def hold():
        with hold_run(lock, "held"):
            time.sleep(120)

    child = fork(hold)
    while not (lock.is_file() and lock.read_text()):
        time.sleep(0.01)
    try:
        with pytest.raises(RuntimeError, match=f"The run 'held' is being written by process {child} on "):
            run_in(project, "align", run_id="held")
        run_in(project, "pairing", run_id="held")  # writes a set's folder, none of the run's
        run_in(project, "align", run_id="beside")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with pytest.raises(Exception, match="alignment.training.steps"):
        run_in(project, "align", run_id="held", alignment={"training": {"steps": -1}})
    run_in(project, "align", run_id="held")  # the dead process holds nothing, and neither does the run that failed
    assert lock.read_text() == ""
