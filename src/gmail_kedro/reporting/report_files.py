"""The files that a run leaves in data/08_reporting, read one by one: what is damaged is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from gmail_kedro.whole_files import refuse_changed

if TYPE_CHECKING:
    from PIL.Image import Image

Content = TypeVar("Content")
LAST_FACT = "trainable_parameters"  # a training writes it into its last row alone


class DamagedReportError(ValueError):
    """A file of a run that was cut or changed, or is not what its name says."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(f"{path} is damaged ({what}); run {path.parent.name} again")


def read_report(path: Path) -> dict[str, Any] | None:
    """Returns the content of a JSON file of a run; None where there is none.

    Raises:
        DamagedReportError: If it is no JSON object, or not the one that was written.
    """
    content = _read(path, lambda file: json.loads(file.read_text(encoding="utf-8")))
    if content is not None and not isinstance(content, dict):
        raise DamagedReportError(path, f"expected a JSON object, found {type(content).__name__}")
    return content


def read_items(path: Path) -> pd.DataFrame | None:
    """Returns a Parquet file of scores image by image; None where there is none.

    Raises:
        DamagedReportError: If it is no Parquet file, or not the one that was written.
    """
    return _read(path, pd.read_parquet)


def _read(path: Path, read: Callable[[Path], Content]) -> Content | None:
    if not path.is_file():
        return None
    try:
        refuse_changed(path)
        return read(path)
    except (ValueError, OSError, RecursionError) as error:  # Arrow's are of the first two; json recurses into brackets
        raise DamagedReportError(path, error) from error


def read_history(path: Path) -> pd.DataFrame | None:
    """Returns the history of a training from its CSV file; None where there is none, or nothing was trained.

    Raises:
        DamagedReportError: If it is no such table, or not the whole of it: see ``missing_steps``.
    """
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.endswith("\n"):  # pandas would read a number that was cut as another number
        raise DamagedReportError(path, "its last line has no end" if text else "it is empty")
    history = _read(path, lambda file: pd.read_csv(file) if text.strip() else pd.DataFrame())
    if history is None or history.empty:
        return None
    if reason := missing_steps(history):
        raise DamagedReportError(path, reason)
    return history


def missing_steps(history: pd.DataFrame) -> str:
    """Returns what a training's history lacks, or ``""``: a step between, or its end.

    The last row of a whole history has the number of trained parameters, and the steps count from 0.
    """
    if history.empty:
        return ""
    steps = history["step"].tolist() if "step" in history else []
    if steps != list(range(len(history))):
        return f"its {len(history)} rows are not the steps 0 to {len(history) - 1}"
    if LAST_FACT in history and pd.isna(history[LAST_FACT].iloc[-1]):
        return f"it ends at row {len(history)}, which is not the last of the training"
    return ""


def read_png(path: Path) -> "Image":
    """Returns a figure that was written as PNG.

    Raises:
        DamagedReportError: If it is no such image, or not the whole of it.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()  # every part of a PNG has a checksum; load() alone does not look at all of them
        with Image.open(path) as image:  # Pillow leaves an image unusable after verify()
            image.load()
        return image
    except (OSError, SyntaxError, ValueError) as error:  # Pillow has no error of its own
        raise DamagedReportError(path, error) from error
