"""Precision and device settings."""

import pytest
import torch

from gmail_kedro.hardware import fast_arithmetic, multiplies_bfloat16, resolve_device, resolve_precision

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


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_bfloat16_is_not_chosen_where_torch_was_told_to_leave_avx512_alone(capability, monkeypatch):
    """Its attention kernel would fail there: "pack_vnni2 is only supported when avx512 is supported"."""
    monkeypatch.setattr("gmail_kedro.hardware._cpu_has_bfloat16_tiles", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert multiplies_bfloat16(CPU) and resolve_precision(CPU, "auto") == "bfloat16"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert not multiplies_bfloat16(CPU) and resolve_precision(CPU, "auto") == "float32"
