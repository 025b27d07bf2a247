"""The file kinds of kedro-datasets, written whole or not at all: a save that is killed leaves the old file or none.

Those that the project reads again (JSON, CSV, Parquet) are held against their checksum then: see ``whole_files``.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import DatasetError
from kedro_datasets import json, pandas, text
from pandas import DataFrame

from gmail_kedro.whole_files import DamagedFileError, atomic_write, known_write, refuse_changed


class WholeFile:
    """Lets the class beside it write under a temporary name; it keeps all its options.

    Example (YAML)::

        scores:
          type: gmail_kedro.datasets.atomic_files.JSONDataset
          filepath: data/08_reporting/main/scores.json
    """

    _protocol: str
    _write = staticmethod(atomic_write)

    def save(self, data: Any) -> None:
        """Writes the file; other file systems than the local one show a file only when it is whole.

        Raises:
            DatasetError: If the data does not fit the format, or the disk refuses.
        """
        write = super().save.__wrapped__  # type: ignore[misc]  # Kedro wraps each save in its messages; once will do
        if self._protocol != "file":
            return write(self, data)
        with self._write(Path(self._get_save_path())) as partial:  # type: ignore[attr-defined]
            write(self._copy(_filepath=PurePosixPath(partial), _version=None), data)  # type: ignore[attr-defined]


class KnownFile(WholeFile):
    """A whole file that is known again: its checksum is noted when it is saved, and compared when it is loaded."""

    _write = staticmethod(known_write)

    def load(self) -> Any:
        """Returns the content.

        Raises:
            DatasetError: If there is no file, or it is not what was written.
        """
        self._refuse_changed()
        return super().load.__wrapped__(self)  # type: ignore[misc]  # as in save

    def _refuse_changed(self) -> None:
        path = Path(self._get_load_path())  # type: ignore[attr-defined]
        if self._protocol == "file" and path.is_file():
            try:
                refuse_changed(path)
            except DamagedFileError as error:
                raise DatasetError(str(error)) from error


class TextDataset(WholeFile, text.TextDataset):
    """``kedro_datasets.text.TextDataset``, written whole."""


class JSONDataset(KnownFile, json.JSONDataset):
    """``kedro_datasets.json.JSONDataset``, written whole and known again."""


class ParquetDataset(KnownFile, pandas.ParquetDataset):
    """``kedro_datasets.pandas.ParquetDataset``, written whole and known again."""


class CSVDataset(KnownFile, pandas.CSVDataset):
    """``kedro_datasets.pandas.CSVDataset``, written whole and known again; one whose last line was cut is refused."""

    def load(self) -> DataFrame:
        """Returns the table, which is empty where one without rows and columns was saved.

        Raises:
            DatasetError: If there is none, or its last line has no end: the number there may have lost digits.
        """
        self._refuse_changed()
        path = Path(self._get_load_path())
        if self._protocol == "file" and path.is_file():
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                raise DatasetError(f"{path} was cut: its last line has no end. Run the pipeline that writes it again.")
            if not content.strip():
                return DataFrame()
        return super().load()
