"""Being asked to stop: real signals to real processes, at any moment of a step; and patience that runs out."""

import math
import os
import signal
import threading
import time

import pytest
import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule, fit
from gmail_kedro.engine.stopping import ASKING, EarlyStopping, Stopped, stopping_at_once, stopping_between_steps

from ..forking import fork
from .test_loop import STEPS, problem


def train(folder, meanwhile=lambda index: None):
    model, step, optimizer, schedule = problem()
    torch.manual_seed(7)

    def slow(index):
        losses = step(index)
        meanwhile(index)  # in the middle of the step: nothing of it has reached the weights
        return losses

    checkpoint = Checkpoint(folder / "state.safetensors", {"run": "a"}, every=1000)
    fit(slow, optimizer, schedule, steps=STEPS, clip_norm=1.0, checkpoint=checkpoint)
    return [parameter.detach() for parameter in model.parameters()]


def exit_code(error):
    return error.code if isinstance(error, SystemExit) else 1


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def ended_within(child, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"still there after {seconds} s")


@pytest.mark.reliability(31)
@pytest.mark.reliability(18)
@pytest.mark.parametrize("asking", ASKING)
def test_the_step_ends_its_state_is_written_and_the_same_command_goes_on(asking, tmp_path, capfd):
    def announce(index):
        if index == 4:
            (tmp_path / "here").touch()
            time.sleep(0.5)

    child = fork(lambda: train(tmp_path / "stopped", announce), exit_code)
    wait_for(tmp_path / "here")
    os.kill(child, asking)
    assert ended_within(child, 30) == os.EX_TEMPFAIL == 75
    assert "Stopped, as asked; what was done is kept. Go on with the same command." in capfd.readouterr().err
    taken = []
    resumed, straight = train(tmp_path / "stopped", taken.append), train(tmp_path / "straight")
    assert taken == list(range(5, STEPS))
    assert all(torch.equal(left, right) for left, right in zip(resumed, straight, strict=True))


@pytest.mark.reliability(31)
@pytest.mark.parametrize("asking", ASKING)
def test_a_second_signal_ends_the_process_at_once(asking, tmp_path):
    def wait_long(index):
        (tmp_path / "here").touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)

    child = fork(lambda: train(tmp_path, wait_long), exit_code)
    wait_for(tmp_path / "here")
    os.kill(child, asking)
    time.sleep(0.3)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)  # it would end after its step
    os.kill(child, asking)
    assert ended_within(child, 2) == -asking


@pytest.mark.reliability(31)
@pytest.mark.parametrize("asking", ASKING)
def test_outside_of_training_it_ends_where_it_is(asking, tmp_path, capfd):
    def work():
        with stopping_at_once():
            (tmp_path / "here").touch()
            time.sleep(60)

    child = fork(work, exit_code)
    wait_for(tmp_path / "here")
    os.kill(child, asking)
    assert ended_within(child, 2) == os.EX_TEMPFAIL
    assert "Go on with the same command." in capfd.readouterr().err


def test_a_forked_worker_leaves_ctrl_c_to_its_owner_and_dies_of_sigterm(tmp_path):
    def work():
        (tmp_path / "here").touch()
        time.sleep(60)

    with stopping_between_steps() as is_asked:
        child = fork(work, exit_code)
        wait_for(tmp_path / "here")
        os.kill(child, signal.SIGINT)
        time.sleep(0.1)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        assert ended_within(child, 2) == -signal.SIGTERM and not is_asked()


def test_handlers_are_put_back_and_what_is_ignored_stays_ignored():
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Stopped), stopping_between_steps() as is_asked:
            signal.raise_signal(signal.SIGINT)
            assert not is_asked()
            signal.raise_signal(signal.SIGTERM)
            assert is_asked()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (before[0], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, before[1])


def test_outside_of_the_main_thread_signals_stay_as_they_are():
    found = []

    def work():
        with stopping_between_steps():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def train_one_weight(losses, *, steps=10, every=2, patience=2, path=None, save_every=1, break_at=None):
    """Trains one weight upwards by its own gradient, with validation losses given in advance."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_adamw([weight], learning_rate=0.1, weight_decay=0.0)
    schedule = build_schedule(optimizer, kind="constant", steps=steps)
    seen = {}

    def validate():
        step = round(float(weight) / 0.1)
        seen[step] = float(weight)
        return losses[step // every - 1]

    def step(index):
        if index == break_at:
            raise KeyboardInterrupt
        return {"loss": -weight.sum()}

    stopping = EarlyStopping(validate, every=every, patience=patience)
    checkpoint = None if path is None else Checkpoint(path, {"run": "a"}, every=save_every)
    history = fit(step, optimizer, schedule, steps=steps, clip_norm=1.0, checkpoint=checkpoint, early_stopping=stopping)
    return float(weight), history, stopping


def test_patience_ends_training_and_the_best_weights_come_back():
    weight, history, stopping = train_one_weight([3.0, 1.0, 2.0, 2.0, 0.0])
    assert len(history.rows) == 8 and stopping.best == 1.0 and stopping.best_step == 4
    assert weight == pytest.approx(0.4, abs=1e-4)
    assert [row["val_loss"] for row in history.rows if "val_loss" in row] == [3.0, 1.0, 2.0, 2.0]


def test_without_patience_it_only_evaluates():
    weight, history, _ = train_one_weight([1.0, 2.0, 3.0, 4.0, 5.0], patience=None)
    assert len(history.rows) == 10 and weight == pytest.approx(1.0, abs=1e-4)


def test_a_loss_that_is_not_finite_is_never_the_best():
    weight, _, stopping = train_one_weight([math.nan, 1.0, math.inf, math.nan, 0.5], patience=3)
    assert stopping.best == 0.5 and weight == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("break_at", [5, 7])
def test_a_resumed_run_stops_where_the_straight_one_does(tmp_path, break_at):
    losses = [3.0, 1.0, 2.0, 2.0, 0.0]
    straight, whole, _ = train_one_weight(losses)
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_one_weight(losses, path=path, break_at=break_at)
    resumed, history, stopping = train_one_weight(losses, path=path)
    assert resumed == straight and stopping.best_step == 4
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in history.rows] == [
        {k: v for k, v in row.items() if k not in drop} for row in whole.rows
    ]


def test_what_patience_ended_is_not_trained_again(tmp_path):
    path = tmp_path / "state.safetensors"
    straight, whole, _ = train_one_weight([3.0, 1.0, 2.0, 2.0, 0.0], path=path, save_every=3)
    # Its last step is the one before step 8: taking it again would break.
    again, history, _ = train_one_weight([3.0, 1.0, 2.0, 2.0, 0.0], path=path, save_every=3, break_at=7)
    assert again == straight and history.rows == whole.rows
