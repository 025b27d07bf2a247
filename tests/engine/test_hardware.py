"""Precision and device settings."""

import pytest
import torch

from gmail_kedro.hardware import fast_arithmetic, resolve_device

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
