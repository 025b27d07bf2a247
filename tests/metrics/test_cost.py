"""Cost figures from histories whose answers can be seen."""

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.metrics.cost import total_cost, training_cost


def history(losses, **last):
    rows = pd.DataFrame({"step": range(len(losses)), "loss": losses, "seconds": np.arange(len(losses)) + 1.0})
    for name, value in last.items():
        rows[name] = [np.nan] * (len(rows) - 1) + [value]
    return rows


def test_what_the_last_row_says_is_taken_over():
    cost = training_cost(history([2.0, 1.0], step_flops=100.0, peak_bytes=7.0, trainable_parameters=3.0))
    assert cost["scores"] == {
        "steps": 2, "seconds": 2.0, "steps_to_convergence": 2, "seconds_to_convergence": 2.0,
        "step_flops": 100.0, "peak_bytes": 7.0, "trainable_parameters": 3.0, "total_flops": 200.0,
    }  # fmt: skip
    assert "energy_joules" not in cost["scores"] and "intel-rapl" in cost["unavailable"]["energy_joules"]
    assert "2 per multiply-add" in cost["flop_convention"]


def test_validation_decides_convergence_where_it_was_looked_at():
    rows = history([9.0] * 10)
    rows["val_loss"] = [np.nan, 4.0, np.nan, 2.0, np.nan, 1.0, np.nan, 1.0, np.nan, 1.0]
    cost = training_cost(rows)
    # smoothed over three looks: 4, 3, 2.33, 1.33, 1: only the last look, step 10, is within 1 % of the best
    assert cost["scores"]["steps_to_convergence"] == 10
    assert cost["converged_by"] == "val_loss within 1 % of its best"
    assert training_cost(rows, tolerance=0.35)["scores"]["steps_to_convergence"] == 8


def test_training_loss_decides_otherwise():
    losses = [10.0, 5.0, 2.0, 1.005, 1.0, 1.2]
    cost = training_cost(history(losses))
    assert (cost["scores"]["steps_to_convergence"], cost["scores"]["seconds_to_convergence"]) == (4, 4.0)
    assert cost["converged_by"].startswith("loss ")
    assert training_cost(history([1.0, np.nan, 0.5, np.inf]))["scores"]["steps_to_convergence"] == 3


def test_a_negative_loss_converges_too():
    assert training_cost(history([-1.0, -9.0, -9.95, -10.0]))["scores"]["steps_to_convergence"] == 3


def test_time_goes_on_where_a_run_was_resumed():
    rows = history([3.0, 2.0, 1.0, 0.5, 0.4])
    rows["seconds"] = [5.0, 10.0, 1.0, 2.0, 0.5]  # resumed twice
    assert training_cost(rows)["scores"]["seconds"] == 10.0 + 2.0 + 0.5


def test_nothing_trained_costs_nothing_and_says_so():
    cost = training_cost(pd.DataFrame({"step": [], "loss": []}))
    assert cost == {"scores": {}, "unavailable": {"all": "nothing was trained"}}


def test_losses_that_never_were_finite_have_no_convergence():
    cost = training_cost(history([np.nan, np.inf]))
    assert cost["converged_by"] is None and "steps_to_convergence" not in cost["scores"]


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="0 or greater. Got -1"):
        training_cost(history([1.0]), tolerance=-1)


def test_trainings_one_after_the_other_add_up():
    first = training_cost(history([2.0, 1.0], step_flops=100.0, peak_bytes=7.0))
    second = training_cost(history([2.0, 1.0, 0.5], step_flops=10.0, peak_bytes=9.0))
    nothing = training_cost(history([]))
    total = total_cost([first, nothing, second])
    assert total["scores"] == {
        "seconds": 5.0, "steps": 5, "seconds_to_convergence": 5.0, "steps_to_convergence": 5,
        "step_flops": 110.0, "total_flops": 230.0, "peak_bytes": 9.0,
    }  # fmt: skip
    assert total_cost([nothing])["unavailable"] == {"all": "nothing was trained"}
    partial = total_cost([first, training_cost(history([1.0]))])
    assert "step_flops" not in partial["scores"] and "step_flops" in partial["unavailable"]
