"""FLOPs by hand, counters that wrap round or are not there, and that metering changes no number."""

import pytest
import torch

from gmail_kedro.engine import cost_meter
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.cost_meter import CostMeter
from gmail_kedro.engine.loop import fit, train
from gmail_kedro.engine.optim import build_adamw, build_schedule
from gmail_kedro.params.training import TrainingParams

CPU = torch.device("cpu")


def model_and_step():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False), torch.nn.Tanh(), torch.nn.Linear(4, 2, bias=False))
    data = torch.randn(16, 8)
    return model, lambda index: {"loss": model(data).square().mean()}


def test_a_multiply_add_is_two_flops(tmp_path):
    model, step = model_and_step()
    training = TrainingParams(
        steps=3, batch_size=16, learning_rate=0.01, weight_decay=0.0, schedule="constant", clip_norm=1.0,
        checkpoint_every=10,
    )  # fmt: skip
    checkpoint = Checkpoint(tmp_path / "state.safetensors", {"test": "1"}, every=10)
    history = train(step, model.parameters(), training, checkpoint, title="Test", device=CPU, precision="float32")
    last = history.rows[-1]
    first, second = 2 * 16 * 8 * 4, 2 * 16 * 4 * 2
    assert history.rows[0]["step_flops"] == first + second + (first + 2 * second)  # no gradient for the data
    assert last["trainable_parameters"] == 40
    assert last["peak_bytes"] > 50 * 2**20
    assert "step_flops" not in last and "peak_bytes" not in history.rows[0]


def test_counting_changes_no_number():
    states = []
    for meter in (None, CostMeter(CPU)):
        model, step = model_and_step()
        optimizer = build_adamw(model.parameters(), learning_rate=0.1, weight_decay=0.0)
        schedule = build_schedule(optimizer, kind="constant", steps=3, warmup_steps=0)
        fit(step, optimizer, schedule, steps=3, clip_norm=1.0, meter=meter)
        states.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*states, strict=True))


def write_counter(folder, joules):
    domain = folder / "intel-rapl:0"
    domain.mkdir(exist_ok=True)
    (domain / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (domain / "max_energy_range_uj").write_text(f"{int(1000 * 1e6)}\n")


@pytest.mark.parametrize(("start", "end", "spent"), [(10, 35.5, 25.5), (990, 5, 15)])
def test_energy_is_the_difference_of_the_counter_also_across_its_end(tmp_path, monkeypatch, start, end, spent):
    monkeypatch.setattr(cost_meter, "POWERCAP", tmp_path)
    write_counter(tmp_path, start)
    meter = CostMeter(CPU)
    write_counter(tmp_path, end)
    assert meter.facts()["energy_joules"] == pytest.approx(spent)


def test_without_a_counter_there_is_no_energy_and_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(cost_meter, "POWERCAP", tmp_path)
    monkeypatch.setattr(cost_meter, "PROCESS", tmp_path)
    assert CostMeter(CPU).facts() == {}
