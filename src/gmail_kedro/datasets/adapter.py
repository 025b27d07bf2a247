"""LoRA adapters in PEFT's own files."""

from pathlib import Path

from kedro.io import DatasetError

from gmail_kedro.datasets.pretrained import PretrainedDataset
from gmail_kedro.zoo.adapters import StoredAdapter, open_adapter
from gmail_kedro.zoo.registry import MissingWeightsError


class AdapterDataset(PretrainedDataset):
    """Saves a PEFT-wrapped tower's adapter and loads it as a ``StoredAdapter``.

    Example (YAML)::

        adapter:
          type: gmail_kedro.datasets.adapter.AdapterDataset
          filepath: data/06_models/main/adapter
    """

    def load(self) -> StoredAdapter:  # type: ignore[override]
        """Returns the stored adapter with its fingerprint.

        Raises:
            DatasetError: If there is none.
        """
        try:
            return open_adapter(Path(self._filepath))
        except MissingWeightsError as error:
            raise DatasetError(str(error)) from error
