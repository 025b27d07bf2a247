"""A folder that nodes read and write through their own classes, such as a cache."""

from pathlib import Path
from typing import Any

from gmail_kedro.datasets.local_path import LocalPathDataset
from gmail_kedro.datasets.read_only import ReadOnlyDataset


class FolderDataset(LocalPathDataset[Any, Path], ReadOnlyDataset[Path]):
    """Gives a node the path of a folder, made when it is asked for.

    Example (YAML)::

        feature_store:
          type: gmail_kedro.datasets.folder.FolderDataset
          filepath: data/04_feature
    """

    def load(self) -> Path:
        """Returns the folder's path; the folder exists afterwards."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    @property
    def read_only(self) -> str:
        """Says that a folder is filled by the class that owns its content."""
        return f"The folder {self._filepath} is no node's output. Use it as an input."
