"""What a run leaves in MLflow: the store, and how parameters, curves, scores, files and lineage are recorded.

``hooks.py`` decides when; this module decides what and how. MLflow is imported when it is first needed.
"""

import contextlib
import fcntl
import json
import math
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

Item = TypeVar("Item")

SQLITE = "sqlite:///"
VALUE_LIMIT = 6000  # characters; MLflow refuses longer parameters and tags
METRICS_A_CALL = 1000  # MLflow refuses more
PARAMETERS_A_CALL = 100  # likewise
TAG_NAMES = {"generated_images": "generated_set"}
SET_FILE = "set.json"
UNNAMED_KEYS = ("scores", "intervals", "mean")


class Point(NamedTuple):
    """One value of one curve.

    Attributes:
        name: The metric, for instance ``alignment/loss``.
        value: Its value.
        step: The optimizer step.
        milliseconds: Unix time.
    """

    name: str
    value: float
    step: int
    milliseconds: int


def default_uri(project: Path) -> str:
    """Returns the address of the project's own SQLite store, the same from any working directory."""
    return f"{SQLITE}{project.resolve() / 'mlflow.db'}"


def prepare_store(uri: str, *, experiment: str) -> None:
    """Creates tables and experiment of a SQLite store, one process at a time; other stores do this themselves.

    Two runs started together would otherwise both create the tables, and one of them would fail.
    Artifacts go to ``mlartifacts`` beside the database, wherever the run was started from.

    Args:
        uri: Address of the store.
        experiment: Name of the experiment.
    """
    if not uri.startswith(SQLITE):
        return
    from mlflow import MlflowClient

    database = Path(uri.removeprefix(SQLITE)).absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(database.with_name(f"{database.name}.lock")):
        client = MlflowClient(tracking_uri=uri)
        if client.get_experiment_by_name(experiment) is None:
            artifacts = (database.parent / "mlartifacts").as_uri()
            client.create_experiment(experiment, artifact_location=artifacts)


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Lets one process at a time into its block.

    Args:
        lock: The file that stands for it; made where it is missing.
    """
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class RunRecorder:
    """Records into one MLflow run by its id, whichever run is active in the calling thread.

    Args:
        client: Client of the store.
        run_id: The run.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log_parameters(self, groups: Mapping[str, Any]) -> None:
        """Records parameter groups, flattened to names like ``alignment.lora_rank``."""
        from mlflow.entities import Param

        parameters = [Param(name, value[:VALUE_LIMIT]) for name, value in flatten_parameters(groups).items()]
        for chunk in _chunks(parameters, PARAMETERS_A_CALL):
            self._client.log_batch(self._run_id, params=chunk)

    def log_history(self, prefix: str, history: "pd.DataFrame") -> None:
        """Records a training history as curves ``<prefix>/<column>``, one point a step.

        Args:
            prefix: First part of the metrics' names.
            history: One row a step, with a column ``step``.
        """
        self._log_points(history_points(prefix, history, ended=time.time()))

    def log_scores(self, scores: Mapping[str, Any], *, prefix: str = "") -> None:
        """Records nested scores as metrics; an interval adds ``/low`` and ``/high``.

        Args:
            scores: See ``flatten_scores``.
            prefix: First part of the metrics' names, if any.
        """
        now = int(time.time() * 1000)
        self._log_points([Point(name, value, 0, now) for name, value in flatten_scores(scores, prefix).items()])

    def log_path(self, path: Path) -> None:
        """Copies a file, or a folder with all that is in it, to the run's artifacts."""
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(self._run_id, str(path))

    def set_lineage(self, tags: Mapping[str, str]) -> None:
        """Tags the run with what it was computed from: commit, set of generated images, weights."""
        from mlflow.entities import RunTag

        if tags:
            values = [RunTag(name, str(value)[:VALUE_LIMIT]) for name, value in tags.items()]
            self._client.log_batch(self._run_id, tags=values)

    def _log_points(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.milliseconds, point.step) for point in points]
        for chunk in _chunks(metrics, METRICS_A_CALL):
            self._client.log_batch(self._run_id, metrics=chunk)


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def flatten_parameters(groups: Mapping[str, Any]) -> dict[str, str]:
    """Returns parameters as text by dotted name; dataclasses and mappings are opened, lists are not.

    Example:
        >>> flatten_parameters({"alignment": {"lora_rank": 4, "lora_targets": ["attn"]}})
        {'alignment.lora_rank': '4', 'alignment.lora_targets': "['attn']"}
    """
    flat: dict[str, str] = {}
    for name, value in groups.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(value, Mapping):
            flat |= flatten_parameters({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = str(value)
    return flat


def flatten_scores(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of nested scores by path; what is not a number (a reason, a null) is left out.

    The keys ``scores``, ``intervals`` and ``mean`` are not part of the path, so an interval stands beside its
    score, and where both give a value the first one counts.

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


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, (bool, str)) and getattr(value, "ndim", 0) == 0


def _metric_name(path: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", path, flags=re.ASCII)


def history_points(prefix: str, history: "pd.DataFrame", *, ended: float) -> list[Point]:
    """Returns the points of a training history, step by step.

    A text column, such as the variant trained, becomes part of the name: ``captioner/frozen/loss``.
    Empty cells are left out.

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


def lineage_of(name: str, value: Any, folder: Path | None = None) -> dict[str, str]:
    """Returns the tags that one input or output of a node adds to a run's lineage.

    Four things speak: a mapping whose name ends in ``lineage`` (tag by tag), a corpus with entries left out (how many,
    by reason), a value with a text attribute ``fingerprint``, and a folder with a ``set.json`` that has one. The tag is
    the dataset's name, or its entry in ``TAG_NAMES``.

    Args:
        name: The dataset's name in the catalog.
        value: What the node got or gave.
        folder: Where the dataset is stored, if it is stored.
    """
    if name.endswith("lineage") and isinstance(value, Mapping):
        return {str(tag): str(content) for tag, content in value.items()}
    skipped = getattr(value, "skipped", None)
    if isinstance(skipped, Mapping) and skipped:
        return {f"{name}_skipped": ", ".join(f"{reason}: {count}" for reason, count in skipped.items())}
    fingerprint = getattr(value, "fingerprint", None)
    if not isinstance(fingerprint, str) and folder is not None and (folder / SET_FILE).is_file():
        fingerprint = json.loads((folder / SET_FILE).read_text(encoding="utf-8")).get("fingerprint")
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
