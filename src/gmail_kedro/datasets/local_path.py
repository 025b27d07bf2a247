"""The base of catalog entries that are one file or folder on this machine."""

from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io import AbstractDataset

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class LocalPathDataset(AbstractDataset[Saved, Loaded], Generic[Saved, Loaded]):
    """Knows where it is; what saving and loading mean is said by its subclasses.

    Args:
        filepath: The file or folder.
        metadata: Of other tools, such as Kedro-Viz's layer.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
