"""What this machine can do and what a training takes of it: device, precision, compiler; FLOPs, memory, energy.

Conventions of the ``CostMeter``: a multiply-add is two FLOPs (``torch.utils.flop_counter``: matrix products,
convolutions and attention, forward and backward; element-wise operations count nothing). Peak memory is what torch
allocated on a GPU, and on a CPU the resident set of the whole process. Energy is that of the whole CPU package or GPU,
whoever used it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")


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


class CostMeter:
    """Measures one training run from its construction on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = _energy_counters(device)
        if device.type == "cuda":  # or the peak would be that of an earlier training in this process
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):
                (PROCESS / "clear_refs").write_text("5")  # resets the peak; where it may not, the peak is older

    @contextlib.contextmanager
    def counting_flops(self) -> Iterator[dict[str, float]]:
        """Counts the FLOPs of its body, one whole step with its backward pass; fills ``step_flops`` at its end."""
        from torch.utils.flop_counter import FlopCounterMode

        facts: dict[str, float] = {}
        with FlopCounterMode(display=False) as counter:
            yield facts
        if count := counter.get_total_flops():
            facts["step_flops"] = float(count)

    def facts(self) -> dict[str, float]:
        """Returns ``peak_bytes`` and ``energy_joules`` if they can be read."""
        facts: dict[str, float] = {}
        peak = self._peak_bytes()
        if peak is not None:
            facts["peak_bytes"] = float(peak)
        end = _energy_counters(self._device)
        if self._start and end.keys() == self._start.keys():  # no figure rather than a part of one
            facts["energy_joules"] = sum(_spent(self._start[name], end[name]) for name in end)
        return facts

    def _peak_bytes(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        try:
            lines = (PROCESS / "status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _energy_counters(device: torch.device) -> dict[str, tuple[float, float]]:
    """Returns each counter's joules and the joules at which it starts again at 0; empty where none can be read."""
    if device.type == "cuda":
        return _gpu_counter(device)
    counters = {}
    for domain in sorted(POWERCAP.glob("intel-rapl:?")):
        with contextlib.suppress(OSError, ValueError):
            joules, largest = (int((domain / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            counters[domain.name] = (joules, largest)
    return counters


def _gpu_counter(device: torch.device) -> dict[str, tuple[float, float]]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        return {"gpu": (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, float("inf"))}
    except Exception:  # no nvidia-ml-py, no driver, or a GPU without the counter: there is simply no figure
        return {}


def _spent(start: tuple[float, float], end: tuple[float, float]) -> float:
    joules = end[0] - start[0]
    return joules if joules >= 0 else joules + end[1]  # the counter has started again at 0
