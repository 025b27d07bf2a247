"""Models in their libraries' own folders: whatever has ``save_pretrained``."""

from pathlib import Path

from kedro.io import DatasetError

from gmail_kedro.datasets.local_path import LocalPathDataset
from gmail_kedro.interfaces import SavesItself
from gmail_kedro.whole_files import atomic_folder


class PretrainedDataset(LocalPathDataset[SavesItself, Path]):
    """Saves through ``save_pretrained`` and loads the folder's path; models are built from paths.

    The folder is written under a temporary name, flushed and renamed: a half-written one is never seen, and what it was
    trained from may be deleted afterwards.

    Example (YAML)::

        captioner:
          type: gmail_kedro.datasets.pretrained.PretrainedDataset
          filepath: data/06_models/main/captioner
    """

    def save(self, data: SavesItself) -> None:
        """Writes the folder, replacing an older one."""
        with atomic_folder(self._filepath) as partial:
            data.save_pretrained(partial)

    def load(self) -> Path:
        """Returns the folder's path.

        Raises:
            DatasetError: If there is no such folder.
        """
        if not self._filepath.is_dir():
            raise DatasetError(f"There is nothing at {self._filepath}. Run the pipeline that makes it first.")
        return self._filepath
