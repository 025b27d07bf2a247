"""Training-free feature maps on disk: one safetensors file, its kind in the header."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.whole_files import DamagedFileError, read_tensors, write_tensors


class FeatureMapDataset(AbstractDataset[FeatureMap, FeatureMap]):
    """Saves and loads a fitted ``FeatureMap``; the file is replaced atomically.

    Example (YAML)::

        feature_map:
          type: gmail_kedro.datasets.feature_map.FeatureMapDataset
          filepath: data/06_models/main/feature_map.safetensors

    Args:
        filepath: The file.
        metadata: Ignored; for other tools.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def save(self, data: FeatureMap) -> None:
        """Writes the statistics and the kind, with their checksum."""
        write_tensors(Path(self._filepath), data.statistics, {"kind": data.kind})

    def load(self) -> FeatureMap:
        """Returns the stored map.

        Raises:
            DatasetError: If there is none, or it is damaged.
        """
        path = Path(self._filepath)
        if not path.is_file():
            raise DatasetError(f"There is no feature map at {path}. Fit it: kedro run --pipeline=align")
        try:
            tensors, facts = read_tensors(path, remedy="Align again: kedro run --pipeline=align")
        except DamagedFileError as error:
            raise DatasetError(str(error)) from error
        return FeatureMap(facts["kind"], tensors)

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
