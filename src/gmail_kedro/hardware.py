"""What this machine can do, and the settings that follow: device, precision, compiler."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch


def resolve_device(name: str) -> torch.device:
    """Returns the device a configuration asks for.

    Args:
        name: ``auto`` (a GPU when there is one, otherwise the CPU) or a torch device such as ``cuda:1``.

    Raises:
        ValueError: If the name is no device's, or a CUDA device is asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"The device must be auto, cpu, cuda or cuda:NUMBER. Got {name!r} instead.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"The device {name!r} was asked for, but torch sees no CUDA device. Use 'cpu' or 'auto'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"The device {name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices, numbered "
            "from 0. Use one of them, or 'auto'."
        )
    return device


@contextlib.contextmanager
def fast_arithmetic(device: torch.device, *, precision: str) -> Iterator[None]:
    """Runs its body in the precision asked for.

    Autocast's weight cache is off: it would keep the first step's weights for as long as the body runs, and a whole
    training loop may run inside. The attention kernel is torch's choice: on a CPU, too, its flash kernel was the faster
    one with torch 2.13 for the 18 to 197 tokens of image-text models (1.1 to 2 times in forward and backward).

    Args:
        device: Where the models are.
        precision: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 where the hardware multiplies in it).

    Raises:
        ValueError: If the precision is not one of the three.
    """
    reduced = resolve_precision(device, precision) == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=reduced, cache_enabled=False):
        yield


def resolve_precision(device: torch.device, precision: str) -> str:
    """Returns ``float32`` or ``bfloat16``: what ``auto`` means on this device, or the choice itself.

    Raises:
        ValueError: If the precision is not one of the three.
    """
    if precision not in ("float32", "bfloat16", "auto"):
        raise ValueError(f"The precision must be float32, bfloat16 or auto. Got {precision!r} instead.")
    if precision == "auto":
        return "bfloat16" if multiplies_bfloat16(device) else "float32"
    return precision


def check_compiler() -> None:
    """Checks that ``torch.compile`` finds a C++ compiler.

    Raises:
        ValueError: If there is none under the name in ``CXX``, or ``g++`` or ``clang++``.
    """
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            f"alignment.compile needs a C++ compiler; there is no {' or '.join(names)} on the PATH. Install one "
            "(on Debian and Ubuntu: apt install g++), name yours in CXX, or set alignment.compile: false."
        )


def multiplies_bfloat16(device: torch.device) -> bool:
    """Says whether bfloat16 saves time here: on a GPU that has it, and on a CPU with AMX tiles.

    AVX512-BF16 alone does not count: on such a CPU the mini models trained and sampled 1.3 to 1.5 times slower in
    bfloat16 than in float32. Nor do tiles that torch was told to leave alone (``ATEN_CPU_CAPABILITY``): its attention
    kernel of torch 2.13 asks the hardware for them all the same and fails on 77 tokens in bfloat16.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bfloat16_tiles()


@lru_cache(maxsize=1)
def _cpu_has_bfloat16_tiles() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()
