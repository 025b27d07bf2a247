"""Schedules by hand; the best weights come back, patience ends training, a resumed run knows what it had seen."""

import math

import numpy as np
import pytest
import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import fit
from gmail_kedro.engine.optim import EarlyStopping, build_adamw, build_schedule


def run(losses, *, steps=10, every=2, patience=2, path=None, save_every=1, break_at=None):
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
    weight, history, stopping = run([3.0, 1.0, 2.0, 2.0, 0.0])
    assert len(history.rows) == 8 and stopping.best == 1.0 and stopping.best_step == 4
    assert weight == pytest.approx(0.4, abs=1e-4)
    assert [row["val_loss"] for row in history.rows if "val_loss" in row] == [3.0, 1.0, 2.0, 2.0]


def test_without_patience_it_only_evaluates():
    weight, history, _ = run([1.0, 2.0, 3.0, 4.0, 5.0], patience=None)
    assert len(history.rows) == 10 and weight == pytest.approx(1.0, abs=1e-4)


def test_a_loss_that_is_not_finite_is_never_the_best():
    weight, _, stopping = run([math.nan, 1.0, math.inf, math.nan, 0.5], patience=3)
    assert stopping.best == 0.5 and weight == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("break_at", [5, 7])
def test_a_resumed_run_stops_where_the_straight_one_does(tmp_path, break_at):
    losses = [3.0, 1.0, 2.0, 2.0, 0.0]
    straight, whole, _ = run(losses)
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(losses, path=path, break_at=break_at)
    resumed, history, stopping = run(losses, path=path)
    assert resumed == straight and stopping.best_step == 4
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in history.rows] == [
        {k: v for k, v in row.items() if k not in drop} for row in whole.rows
    ]


def test_what_patience_ended_is_not_trained_again(tmp_path):
    path = tmp_path / "state.safetensors"
    straight, whole, _ = run([3.0, 1.0, 2.0, 2.0, 0.0], path=path, save_every=3)
    again, history, _ = run([3.0, 1.0, 2.0, 2.0, 0.0], path=path, save_every=3, break_at=7)  # its last step
    assert again == straight and history.rows == whole.rows


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
