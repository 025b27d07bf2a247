"""What a training run takes: FLOPs of a step, peak memory, energy where a counter can be read.

Conventions: a multiply-add is two FLOPs (``torch.utils.flop_counter``: matrix products, convolutions and attention,
forward and backward; element-wise operations count nothing). Peak memory is what torch allocated on a GPU, and on a CPU
the resident set of the whole process. Energy is that of the whole CPU package or GPU, whoever used it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")


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
