"""Training-free feature maps on disk: one safetensors file, its kind in the header."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.whole_files import whole_file


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
        """Writes the statistics and the kind."""
        import torch
        from safetensors.torch import save_file

        tensors = {name: value.contiguous() for name, value in data.tensors().items()}
        with whole_file(Path(self._filepath)) as partial:
            save_file(tensors or {"empty": torch.zeros(1)}, partial, metadata={"kind": data.kind})

    def load(self) -> FeatureMap:
        """Returns the stored map.

        Raises:
            DatasetError: If there is none, or it is damaged.
        """
        from safetensors import safe_open

        path = Path(self._filepath)
        if not path.is_file():
            raise DatasetError(f"There is no feature map at {path}. Fit it: kedro run --pipeline=align")
        try:
            with safe_open(path, framework="pt") as stored:
                kind = stored.metadata()["kind"]
                tensors = {name: stored.get_tensor(name) for name in stored.keys() if name != "empty"}  # noqa: SIM118
                return FeatureMap.from_tensors(kind, tensors)
        except Exception as error:
            raise DatasetError(
                f"The feature map {path} cannot be read ({error}). Delete it and align again."
            ) from error

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
