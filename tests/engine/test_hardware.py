"""Precision and device settings."""

import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from gmail_kedro.hardware import fast_arithmetic, multiplies_bfloat16, resolve_device, resolve_precision
from gmail_kedro.hooks.input_hooks import refuse_models
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
