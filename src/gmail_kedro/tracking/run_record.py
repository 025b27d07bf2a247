"""What a run leaves in MLflow: parameters, curves, scores, files and lineage, as entries that a store or a file takes.

An entry is JSON values under ``params``, ``tags``, ``metrics`` or ``path``. kedro-mlflow's own datasets write to the
active run when Kedro saves them, and fail with the store; an entry can wait in a file instead (``pending_records``).
``hooks/tracking_hooks.py`` decides when something is recorded, this module what. MLflow is imported when first needed.
"""

import errno
import math
import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gmail_kedro.params.base import NestedParams
from gmail_kedro.redaction import redact, redact_values

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

Entry = Mapping[str, Any]

VALUE_LIMIT = 6000  # characters; MLflow refuses longer parameters and tags
TAG_NAMES = {"generated_images": "generated_set"}
UNNAMED_KEYS = ("scores", "intervals", "mean")


class Point(NamedTuple):
    """One value of one curve."""

    name: str  # the metric, for instance `alignment/loss`
    value: float
    step: int
    milliseconds: int  # Unix time


def parameters_entry(groups: Mapping[str, Any]) -> Entry:
    """Returns parameter groups, flattened to names like ``alignment.lora.rank``; secrets are hidden."""
    flat = redact_values(flatten_parameters(groups))
    return {"params": {name: value[:VALUE_LIMIT] for name, value in flat.items()}}


def history_entry(prefix: str, history: "pd.DataFrame") -> Entry:
    """Returns a training history as curves ``<prefix>/<column>``; see ``history_points``."""
    return {"metrics": history_points(prefix, history, ended=time.time())}


def scores_entry(scores: Mapping[str, Any], *, prefix: str = "") -> Entry:
    """Returns nested scores as metrics; an interval adds ``/low`` and ``/high``. See ``flatten_scores``."""
    now = int(time.time() * 1000)
    return {"metrics": [Point(name, value, 0, now) for name, value in flatten_scores(scores, prefix).items()]}


def path_entry(path: Path) -> Entry:
    """Returns a file, or a folder with all that is in it, as an artifact to be copied."""
    return {"path": str(path.absolute())}


def tags_entry(tags: Mapping[str, str]) -> Entry:
    """Returns what a run was computed from, such as commit, set of generated images and weights, as tags."""
    return {"tags": {name: redact(str(value))[:VALUE_LIMIT] for name, value in tags.items()}}


def apply_entry(client: "MlflowClient", run_id: str, entry: Entry) -> None:
    """Writes an entry into one MLflow run by its id, whichever run is active in the calling thread.

    Args:
        client: Client of the store.
        run_id: The run.
        entry: As the functions above make it.

    Raises:
        FileNotFoundError: If a file that the entry names is not there.
        MlflowException: If the store refuses it or cannot be used.
    """
    from mlflow.entities import Metric, Param, RunTag

    if "path" in entry:
        _copy_path(client, run_id, Path(entry["path"]))
        return
    points = (Point(*point) for point in entry.get("metrics", ()))  # lists, where they come from a file
    client.log_batch(  # the client itself cuts it into as many calls as the store takes
        run_id,
        metrics=[Metric(point.name, point.value, point.milliseconds, point.step) for point in points],
        params=[Param(*item) for item in entry.get("params", {}).items()],
        tags=[RunTag(*item) for item in entry.get("tags", {}).items()],
        synchronous=True,
    )


def _copy_path(client: "MlflowClient", run_id: str, path: Path) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), artifact_path=path.name)
    elif path.is_file():
        client.log_artifact(run_id, str(path))
    else:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def flatten_parameters(groups: Mapping[str, Any]) -> dict[str, str]:
    """Returns parameters as text by dotted name; groups and mappings are opened, lists are not.

    Example:
        >>> flatten_parameters({"alignment": {"lora": {"rank": 4, "targets": ["attn"]}}})
        {'alignment.lora.rank': '4', 'alignment.lora.targets': "['attn']"}
    """
    flat: dict[str, str] = {}
    for name, value in groups.items():
        if isinstance(value, NestedParams):
            value = value.model_dump()
        if isinstance(value, Mapping):
            flat |= flatten_parameters({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = str(value)
    return flat


def flatten_scores(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of nested scores by path; what is not a number (a reason, a null) is left out.

    The keys ``scores``, ``intervals`` and ``mean`` are not part of the path, so an interval stands with its score, and
    where both give a value the first one counts.

    Args:
        scores: Numbers, intervals ``{"mean", "low", "high"}`` or mappings of such.
        prefix: Path of ``scores`` itself.

    Example:
        >>> flatten_scores({"scores": {"cider": 61.0}, "intervals": {"cider": {"mean": 60.0, "low": 58.0}}}, "coco")
        {'coco/cider': 61.0, 'coco/cider/low': 58.0}
    """
    flat: dict[str, float] = {}
    for key, value in scores.items():
        path = prefix if key in UNNAMED_KEYS else f"{prefix}/{key}".lstrip("/")
        if isinstance(value, Mapping):
            flat = flatten_scores(value, path) | flat
        elif path and _is_number(value):
            flat.setdefault(_metric_name(path), float(value))
    return flat


def history_points(prefix: str, history: "pd.DataFrame", *, ended: float) -> list[Point]:
    """Returns the points of a training history, step by step; empty cells are left out.

    A text column, such as the variant trained, becomes part of the name: ``captioner/frozen/loss``.

    Args:
        prefix: First part of the metrics' names.
        history: One row a step, with a column ``step``; ``seconds`` places the steps in time.
        ended: Unix time of the last row, in seconds.
    """
    points = []
    seconds = history["seconds"] if "seconds" in history else history["step"] * 0.0
    moments = ended - (seconds.max() - seconds)
    for row, moment in zip(history.to_dict("records"), moments, strict=True):
        step = int(row.pop("step"))
        path = "/".join([prefix, *(value for value in row.values() if isinstance(value, str))])
        for name, value in row.items():
            if _is_number(value) and not math.isnan(value):
                points.append(Point(_metric_name(f"{path}/{name}"), float(value), step, int(moment * 1000)))
    return points


def _is_number(value: Any) -> bool:
    # NumPy's scalars and arrays of one number have __float__ too; only the scalars are numbers here.
    return hasattr(value, "__float__") and not isinstance(value, (bool, str)) and getattr(value, "ndim", 0) == 0


def _metric_name(path: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", path, flags=re.ASCII)  # MLflow refuses a batch for one other letter


def lineage_of(name: str, value: Any) -> dict[str, str]:
    """Returns the tags that one input or output of a node adds to a run's lineage.

    Three things speak: a mapping whose name ends in ``lineage`` (tag by tag), a corpus with entries left out (how many,
    by reason), and a value with a text attribute ``fingerprint``, such as a generated set, which was checked when it
    was opened. The tag is the dataset's name, or its entry in ``TAG_NAMES``.

    Args:
        name: The dataset's name in the catalog.
        value: What the node got or gave.
    """
    if name.endswith("lineage") and isinstance(value, Mapping):
        return {str(tag): str(content) for tag, content in value.items()}
    skipped = getattr(value, "skipped", None)
    if isinstance(skipped, Mapping) and skipped:
        return {f"{name}_skipped": ", ".join(f"{reason}: {count}" for reason, count in skipped.items())}
    fingerprint = getattr(value, "fingerprint", None)  # a data frame may have a column of that name
    return {TAG_NAMES.get(name, name): fingerprint} if isinstance(fingerprint, str) else {}


def git_state(project: Path) -> dict[str, str]:
    """Returns ``git_commit`` and ``git_dirty`` of the project, or nothing where there is no repository."""
    try:
        commit = _git(project, "rev-parse", "HEAD")
        changes = _git(project, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def _git(project: Path, *words: str) -> str:
    finished = subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=True, timeout=30)
    return finished.stdout.strip()
