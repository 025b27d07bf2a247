"""Models in their libraries' own folders: whatever has ``save_pretrained``."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.interfaces import SavesItself
from gmail_kedro.whole_files import atomic_folder


class PretrainedDataset(AbstractDataset[SavesItself, Path]):
    """Saves through ``save_pretrained`` and loads the folder's path; the zoo builds models from paths.

    The folder is written under a temporary name, flushed and renamed: a half-written one is never seen, and what it was
    trained from may be deleted afterwards.

    Example (YAML)::

        captioner:
          type: gmail_kedro.datasets.pretrained.PretrainedDataset
          filepath: data/06_models/main/captioner

    Args:
        filepath: The folder.
        metadata: Ignored; for other tools.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def save(self, data: SavesItself) -> None:
        """Writes the folder, replacing an older one."""
        with atomic_folder(Path(self._filepath)) as partial:
            data.save_pretrained(partial)

    def load(self) -> Path:
        """Returns the folder's path.

        Raises:
            DatasetError: If there is no such folder.
        """
        folder = Path(self._filepath)
        if not folder.is_dir():
            raise DatasetError(f"There is nothing at {folder}. Run the pipeline that makes it first.")
        return folder

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
