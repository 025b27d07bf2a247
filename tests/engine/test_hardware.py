"""Precision and device settings; FLOPs by hand, counters that wrap round or are not there."""

import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from gmail_kedro import hardware
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule, fit, train
from gmail_kedro.hardware import CostMeter, fast_arithmetic, multiplies_bfloat16, resolve_device, resolve_precision
from gmail_kedro.hooks.input_hooks import refuse_models
from gmail_kedro.params.base import TrainingParams
from gmail_kedro.params.run import RunParams

from ..params.test_params import load

CPU = torch.device("cpu")


def test_weights_changed_inside_are_seen():
    """Autocast's own cache would go on using the first step's weights."""
    layer = torch.nn.Linear(4, 4)
    inputs = torch.randn(3, 4)
    with fast_arithmetic(CPU, precision="bfloat16"):
        before = layer(inputs)
        with torch.no_grad():
            layer.weight.add_(1.0)
        after = layer(inputs)
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_settings_are_put_back(precision):
    with fast_arithmetic(CPU, precision=precision):
        assert torch.is_autocast_enabled("cpu") == (precision == "bfloat16")
    assert not torch.is_autocast_enabled("cpu")


def test_unknown_precision_is_refused():
    with (
        pytest.raises(ValueError, match="must be float32, bfloat16 or auto. Got 'half'"),
        fast_arithmetic(CPU, precision="half"),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_gpu_is_an_error_not_a_silent_cpu():
    assert resolve_device("auto") == CPU
    with pytest.raises(ValueError, match="torch sees no CUDA device"):
        resolve_device("cuda")


def test_a_gpu_beyond_those_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:2' was asked for, but torch sees 2 CUDA devices, numbered from 0"):
        resolve_device("cuda:2")


def test_a_device_that_is_none_is_refused_in_our_words():
    with pytest.raises(ValueError, match="must be auto, cpu, cuda or cuda:NUMBER. Got 'gpu' instead"):
        resolve_device("gpu")


def test_a_run_on_a_device_that_is_not_there_is_refused_before_its_first_node():
    catalog = DataCatalog({"params:run": MemoryDataset(RunParams(**{**load("base")["run"], "device": "gpu"}))})
    with pytest.raises(ValueError, match="Got 'gpu' instead"):
        refuse_models(Pipeline([node(print, "params:run", None)]), catalog)


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_bfloat16_is_not_chosen_where_torch_was_told_to_leave_avx512_alone(capability, monkeypatch):
    """Its attention kernel would fail there: "pack_vnni2 is only supported when avx512 is supported"."""
    monkeypatch.setattr("gmail_kedro.hardware._cpu_has_bfloat16_tiles", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert multiplies_bfloat16(CPU) and resolve_precision(CPU, "auto") == "bfloat16"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert not multiplies_bfloat16(CPU) and resolve_precision(CPU, "auto") == "float32"


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
    monkeypatch.setattr(hardware, "POWERCAP", tmp_path)
    write_counter(tmp_path, start)
    meter = CostMeter(CPU)
    write_counter(tmp_path, end)
    assert meter.facts()["energy_joules"] == pytest.approx(spent)


def test_without_a_counter_there_is_no_energy_and_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "POWERCAP", tmp_path)
    monkeypatch.setattr(hardware, "PROCESS", tmp_path)
    assert CostMeter(CPU).facts() == {}
