"""The training loop: it learns, resumes exactly, survives bad steps and refuses foreign checkpoints."""

import numpy as np
import pytest
import torch

from gmail_kedro.engine.batches import batch_rows
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import NAN_LIMIT, build_adamw, build_schedule, fit

STEPS = 12


def problem():
    """A linear regression with dropout, so that torch's random state matters."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(3, 1))
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    targets = inputs.sum(1, keepdim=True)
    optimizer = build_adamw(model.parameters(), learning_rate=0.05, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="cosine", steps=STEPS, warmup_steps=2, restarts=2)

    def step(index):
        rows = batch_rows(index, count=20, batch_size=8, seed=3)
        return {"loss": (model(inputs[rows]) - targets[rows]).square().mean()}

    return model, step, optimizer, schedule


def train(steps, path=None, fingerprint=None, break_at=None):
    model, step, optimizer, schedule = problem()
    torch.manual_seed(7)
    checkpoint = None if path is None else Checkpoint(path, fingerprint or {"run": "a"}, every=5)

    def guarded(index):
        if index == break_at:
            raise KeyboardInterrupt
        return step(index)

    history = fit(guarded, optimizer, schedule, steps=steps, clip_norm=1.0, checkpoint=checkpoint)
    return model, history


def test_it_learns():
    _, history = train(STEPS)
    losses = [row["loss"] for row in history.rows]
    assert losses[-1] < 0.8 * losses[0]
    assert [row["step"] for row in history.rows] == list(range(STEPS))


@pytest.mark.reliability(18)
@pytest.mark.parametrize("break_at", [6, 11])  # an epoch has two steps: in the middle of one, and at the end of one
def test_resumed_equals_straight(tmp_path, break_at):
    straight, whole = train(STEPS)
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(STEPS, path, break_at=break_at)
    torch.rand(5)  # whatever happened between the two processes
    resumed, history = train(STEPS, path)
    for left, right in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in whole.rows]
    assert [row["learning_rate"] for row in history.rows] == [row["learning_rate"] for row in whole.rows]


@pytest.mark.reliability(20)
def test_bad_steps_change_nothing_and_too_many_stop_the_run():
    model, step, optimizer, schedule = problem()
    before = [parameter.clone() for parameter in model.parameters()]

    def nan_step(index):
        return {"loss": step(index)["loss"] * float("nan")}

    history = fit(nan_step, optimizer, schedule, steps=3, clip_norm=1.0)
    assert history.skipped_count == 3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(FloatingPointError, match=f"{NAN_LIMIT + 1} steps had a loss or gradient"):
        fit(nan_step, optimizer, schedule, steps=NAN_LIMIT + 5, clip_norm=1.0)


@pytest.mark.reliability(20)
def test_a_gradient_that_is_not_finite_is_skipped_and_running_statistics_are_put_back():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    optimizer = build_adamw(model.parameters(), learning_rate=0.05, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="constant", steps=3)
    inputs, seen = torch.randn(8, 3), []

    def step(index):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        if index == 1:  # sqrt at 0: the loss is a number, its gradient is not; the statistics see other inputs
            return {"loss": (model(inputs + 100).mean() * 0).sqrt()}
        return {"loss": model(inputs).square().mean()}

    history = fit(step, optimizer, schedule, steps=3, clip_norm=1.0, statistics=model.buffers())
    assert history.rows[1]["loss"] == 0 and history.skipped_count == 1
    assert all(torch.equal(seen[1][name], seen[2][name]) for name in seen[1])
    assert not any(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_warm_restarts_start_each_cycle_at_the_top():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_adamw([parameter], learning_rate=1.0, weight_decay=0.0)
    schedule = build_schedule(optimizer, kind="cosine", steps=10, restarts=2)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == rates[5] == 1.0
    assert rates[:5] == rates[5:]
    assert rates[4] == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.8)))


def test_a_cosine_ends_at_its_floor_after_the_warm_up():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_adamw([parameter], learning_rate=2.0, weight_decay=0.0)
    schedule = build_schedule(optimizer, kind="cosine", steps=12, warmup_steps=2, floor=0.25)
    (factor,) = schedule.lr_lambdas
    assert [factor(0), factor(1), factor(2)] == [0.5, 1.0, 1.0]
    assert factor(7) == pytest.approx(0.25 + 0.75 / 2)
    assert 0.25 < factor(11) < 0.28


def test_unknown_schedule_is_refused():
    optimizer = build_adamw([torch.nn.Parameter(torch.zeros(1))], learning_rate=1.0, weight_decay=0.0)
    with pytest.raises(ValueError, match="must be one of"):
        build_schedule(optimizer, kind="cosin", steps=3)
