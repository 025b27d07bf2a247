"""A folder that nodes read and write through their own classes, such as a cache."""

from pathlib import Path, PurePosixPath
from typing import Any

from gmail_kedro.datasets.read_only import ReadOnlyDataset


class FolderDataset(ReadOnlyDataset[Path]):
    """Gives a node the path of a folder, made when it is asked for.

    Example (YAML)::

        feature_store:
          type: gmail_kedro.datasets.folder.FolderDataset
          filepath: data/04_feature

    Args:
        filepath: The folder.
        metadata: Ignored; for other tools.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Returns the folder's path; the folder exists afterwards."""
        folder = Path(self._filepath)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def read_only(self) -> str:
        """Says that a folder is filled by the class that owns its content."""
        return f"The folder {self._filepath} is no node's output. Use it as an input."

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
