"""Training state on disk: the newest and the one before, each with its checksum, never pickled.

Two states are kept because one can be lost: a process that is killed while it writes leaves the one before, and so does
a disk that damages the newest. A state is of one run alone: it names all that the run depends on, and refuses another.
"""

import glob
import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.stopping import EarlyStopping
from gmail_kedro.interfaces import GeneratedImages
from gmail_kedro.params.base import Parameters
from gmail_kedro.params.run import RunParams
from gmail_kedro.whole_files import DamagedFileError, read_tensors, write_tensors

logger = logging.getLogger(__name__)

OPTIMIZER = "optimizer."


@dataclass
class Checkpoint:
    """The resumable state of one training run, as it is now and as it was one checkpoint before.

    Attributes:
        path: The safetensors file; the state before lies beside it (``previous``).
        fingerprint: What the run depends on (configuration, weights, data); a checkpoint with another
            fingerprint is refused.
        every: Steps between two checkpoints.
        buffers: Tensors that training changes and no optimizer holds, by name: running statistics.
    """

    path: Path
    fingerprint: dict[str, str]
    every: int
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def previous(self) -> Path:
        """Where the state before the newest is."""
        return self.path.with_suffix(f".previous{self.path.suffix}")

    def exists(self) -> bool:
        """Says whether there is a state to go on from."""
        return bool(self._states())

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
        """Writes parameters, optimizer moments, schedule, history, random state and what early stopping knows.

        Raises:
            OSError: If the disk refuses; the state before is kept.
        """
        tensors = {"rng": torch.get_rng_state()}  # dropout draws from it; all else is a function of the step's index
        for index, parameter in enumerate(trainable_parameters(optimizer)):
            tensors[f"parameter.{index}"] = parameter
            for name, value in optimizer.state[parameter].items():
                tensors[f"{OPTIMIZER}{index}.{name}"] = torch.as_tensor(value)
        tensors |= {f"buffer.{name}": value for name, value in self.buffers.items()}
        stopping_facts: dict[str, Any] = {}
        if early_stopping is not None:
            stopping_facts, kept = early_stopping.state()
            tensors |= kept
        state = {
            "early_stopping": stopping_facts,
            "step": step,
            "fingerprint": self.fingerprint,
            "schedule": schedule.last_epoch,
            "rows": json.dumps(rows),  # as text: a header's own keys are sorted, and these are a table's columns
            "skipped_count": skipped_count,
        }
        self._write(tensors, state)

    def load(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        early_stopping: EarlyStopping | None = None,
    ) -> tuple[int, list[dict[str, float]], int]:
        """Puts the state back and returns the next step, the history so far and the skipped count.

        Where the newest state is damaged, the one before it is taken, and that is said.

        Raises:
            DamagedFileError: If no state is whole; nothing was put back.
            ValueError: If the checkpoint belongs to another configuration; names the first key that differs.
        """
        tensors, state = self._read()
        self._refuse_foreign(state["fingerprint"])  # before anything is changed
        torch.set_rng_state(tensors["rng"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for index, parameter in enumerate(trainable_parameters(optimizer)):
            parameter.data.copy_(tensors[f"parameter.{index}"])
        for name in sorted(name for name in tensors if name.startswith(OPTIMIZER)):
            number, _, value = name.removeprefix(OPTIMIZER).partition(".")
            moments.setdefault(int(number), {})[value] = tensors[name]
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        for name, buffer in self.buffers.items():
            buffer.copy_(tensors[f"buffer.{name}"])
        if early_stopping is not None and state["early_stopping"]:
            kept = {name: tensor for name, tensor in tensors.items() if name.startswith("best.")}
            early_stopping.load_state(state["early_stopping"], kept)
        # A LambdaLR is its counter; the rates follow from it and are set by hand, for nothing calls step here.
        schedule.last_epoch = state["schedule"]
        for group, base, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = base * factor(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
        return state["step"], json.loads(state["rows"]), state["skipped_count"]

    def remove(self) -> None:
        """Deletes all states once the run's result is stored."""
        # What a killed process left while it wrote goes with the next write; after the last there is none.
        partials = self.path.parent.glob(f"{glob.escape(self.path.name)}.*.partial")
        for path in (self.path, self.previous, *partials):
            path.unlink(missing_ok=True)

    def _write(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        if self.path.exists():  # at no moment are both states gone
            os.replace(self.path, self.previous)
        try:
            write_tensors(self.path, tensors, state)
        except Exception as error:  # safetensors has an error of its own for a disk that refuses
            raise OSError(
                f"The checkpoint {self.path} cannot be written ({error}). Make room, or make the folder writable: the "
                f"same command then goes on from {self.previous.name}, if that is there, and else starts afresh."
            ) from error

    def _read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Returns the newest state that is whole, and leaves it as the newest."""
        damages = []
        for path in self._states():
            try:
                tensors, state = read_tensors(path, remedy=self._remedy())
            except DamagedFileError as damage:
                damages.append(damage)
                continue
            if damages:
                said = self.path, state["step"]
                logger.warning("The checkpoint %s is damaged: the one before is taken, after step %d.", *said)
            os.replace(path, self.path)  # or the next writing would move the damaged one over the whole one
            return tensors, state
        raise damages[0]

    def _states(self) -> list[Path]:
        return [path for path in (self.path, self.previous) if path.exists()]

    def _remedy(self) -> str:
        return f"To start the training afresh, delete {' and '.join(map(str, self._states()))}."

    def _refuse_foreign(self, stored: dict[str, str]) -> None:
        for key in sorted(stored.keys() | self.fingerprint.keys()):
            if stored.get(key) != self.fingerprint.get(key):
                raise ValueError(
                    f"The checkpoint {self.path} belongs to another run: {key} was {stored.get(key)!r} and is now "
                    f"{self.fingerprint.get(key)!r}. Restore the setting to go on. {self._remedy()}"
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
        """Returns the state of the training ``name``; it stays after the last step, until ``remove_opened``."""
        self.opened.append(Checkpoint(self.folder / f"{name}.safetensors", fingerprint, every, buffers or {}))
        return self.opened[-1]

    def remove_opened(self) -> None:
        """Deletes the states, once the results of their trainings are stored."""
        while self.opened:
            self.opened.pop().remove()


def settings_of(run: RunParams, *groups: Parameters) -> dict[str, str]:
    """Returns the part of a fingerprint that is settings: those of a trainer's groups, the seed and the precision.

    The device is not among them: a training may go on on another one.
    """
    settings = {name: repr(value) for group in groups for name, value in group.flat().items()}
    return settings | {"run.seed": str(run.seed), "run.precision": run.precision}


def data_of(
    pairs: pd.DataFrame, *, rows: np.ndarray | None = None, generated: GeneratedImages | None = None
) -> dict[str, str]:
    """Returns the part of a fingerprint that is data: the pairs, those of ``rows`` in their order, the generated set.

    The images themselves are not read: a set that is generated anew has another fingerprint.
    """
    chosen = b"" if rows is None else rows.tobytes()
    facts = {"pairs": hashlib.sha256(pairs.to_csv(index=False).encode() + chosen).hexdigest()}
    if generated is None:
        return facts
    identity = generated.identity
    # The gate too: it leaves images out of a set without changing any of them.
    return facts | {"generated set": identity["fingerprint"], "gate of the generated set": identity["gate"]}


def trainable_parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """Returns what an optimizer updates, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
