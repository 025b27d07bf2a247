"""Training-free feature maps on disk: one safetensors file, its kind in the header."""

from kedro.io import DatasetError

from gmail_kedro.datasets.local_path import LocalPathDataset
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.whole_files import DamagedFileError, read_tensors, write_tensors


class FeatureMapDataset(LocalPathDataset[FeatureMap, FeatureMap]):
    """Saves and loads a fitted ``FeatureMap``; the file is replaced atomically.

    Example (YAML)::

        feature_map:
          type: gmail_kedro.datasets.feature_map.FeatureMapDataset
          filepath: data/06_models/main/feature_map.safetensors
    """

    def save(self, data: FeatureMap) -> None:
        """Writes the statistics and the kind, with their checksum."""
        write_tensors(self._filepath, data.statistics, {"kind": data.kind})

    def load(self) -> FeatureMap:
        """Returns the stored map.

        Raises:
            DatasetError: If there is none, or it is damaged.
        """
        if not self._filepath.is_file():
            raise DatasetError(f"There is no feature map at {self._filepath}. Fit it: kedro run --pipeline=align")
        try:
            tensors, facts = read_tensors(self._filepath, remedy="Align again: kedro run --pipeline=align")
        except DamagedFileError as error:
            raise DatasetError(str(error)) from error
        return FeatureMap(facts["kind"], tensors)
