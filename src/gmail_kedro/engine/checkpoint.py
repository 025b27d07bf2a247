"""Training state on disk: safetensors and JSON, written to a temporary name and renamed, never pickled."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.engine.early_stopping import EarlyStopping

STATE_KEY = "state"


@dataclass
class Checkpoint:
    """The resumable state of one training run: one file, replaced atomically.

    Attributes:
        path: The safetensors file.
        fingerprint: What the run depends on (configuration, weights, data); a checkpoint with another
            fingerprint is refused.
        every: Steps between two checkpoints.
        buffers: Tensors that training changes and no optimizer holds, by name: running statistics.
    """

    path: Path
    fingerprint: dict[str, str]
    every: int
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)

    def exists(self) -> bool:
        """Says whether there is a state to go on from."""
        return self.path.exists()

    def is_due(self, step: int) -> bool:
        """Says whether a checkpoint is to be written after this many steps."""
        return step % self.every == 0

    def save(
        self,
        step: int,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        rows: list[dict[str, float]],
        skipped_count: int,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        """Writes parameters, optimizer moments, schedule, history, random state and what early stopping knows."""
        from safetensors.torch import save_file

        tensors = {"rng": torch.get_rng_state()}
        for index, parameter in enumerate(_parameters(optimizer)):
            tensors[f"parameter.{index}"] = parameter.detach().contiguous()
            for name, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).contiguous()
        tensors |= {f"buffer.{name}": value.detach().contiguous() for name, value in self.buffers.items()}
        looks: dict[str, Any] = {}
        if early_stopping is not None:
            looks, kept = early_stopping.state()
            tensors |= kept
        state = {
            "early_stopping": looks,
            "step": step,
            "fingerprint": self.fingerprint,
            "schedule": schedule.last_epoch,
            "rows": rows,
            "skipped_count": skipped_count,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        save_file(tensors, unfinished, metadata={STATE_KEY: json.dumps(state)})
        os.replace(unfinished, self.path)

    def load(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        early_stopping: EarlyStopping | None = None,
    ) -> tuple[int, list[dict[str, float]], int]:
        """Puts the state back and returns the next step, the history so far and the skipped count.

        Raises:
            ValueError: If the checkpoint belongs to another configuration; names the first key that differs.
        """
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as stored:
            state = json.loads(stored.metadata()[STATE_KEY])
            self._refuse_foreign(state["fingerprint"])
            torch.set_rng_state(stored.get_tensor("rng"))
            for index, parameter in enumerate(_parameters(optimizer)):
                parameter.data.copy_(stored.get_tensor(f"parameter.{index}"))
                prefix = f"optimizer.{index}."
                names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
                optimizer.state[parameter] = {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
            for name, buffer in self.buffers.items():
                buffer.copy_(stored.get_tensor(f"buffer.{name}"))
            if early_stopping is not None and state["early_stopping"]:
                kept = {name: stored.get_tensor(name) for name in stored.keys() if name.startswith("best.")}  # noqa: SIM118
                early_stopping.load_state(state["early_stopping"], kept)
        schedule.last_epoch = state["schedule"]
        for group, base, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = base * factor(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
        return state["step"], state["rows"], state["skipped_count"]

    def remove(self) -> None:
        """Deletes the state once the run's result is stored."""
        self.path.unlink(missing_ok=True)

    def _refuse_foreign(self, stored: dict[str, str]) -> None:
        for key in sorted(stored.keys() | self.fingerprint.keys()):
            if stored.get(key) != self.fingerprint.get(key):
                raise ValueError(
                    f"The checkpoint {self.path} belongs to another run: {key} was {stored.get(key)!r} and is now "
                    f"{self.fingerprint.get(key)!r}. Delete the file to start afresh, or restore the setting."
                )


@dataclass
class Checkpoints:
    """The training states of one run, a file a training.

    Attributes:
        folder: Where they lie.
        opened: Those that somebody trains with.
    """

    folder: Path
    opened: list[Checkpoint] = field(default_factory=list)

    def open(
        self, name: str, fingerprint: dict[str, str], *, every: int, buffers: dict[str, torch.Tensor] | None = None
    ) -> Checkpoint:
        """Returns the state of a training; it stays after the last step, until somebody says ``remove_opened``.

        Args:
            name: The training.
            fingerprint: What the run depends on.
            every: Steps between two checkpoints.
            buffers: Tensors that training changes and no optimizer holds.
        """
        self.opened.append(Checkpoint(self.folder / f"{name}.safetensors", fingerprint, every, buffers or {}))
        return self.opened[-1]

    def remove_opened(self) -> None:
        """Deletes the states, once the results of their trainings are stored."""
        while self.opened:
            self.opened.pop().remove()


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
