"""Students: adapters in PEFT's own files, with their heads and recipe."""

from kedro.io import DatasetError

from gmail_kedro.datasets.pretrained import PretrainedDataset
from gmail_kedro.models.student.student import StoredStudent, open_student


class AdapterDataset(PretrainedDataset):
    """Saves a student's trained weights and loads them as a ``StoredStudent``.

    Example (YAML)::

        adapter:
          type: gmail_kedro.datasets.adapter.AdapterDataset
          filepath: data/06_models/main/adapter
    """

    def load(self) -> StoredStudent:  # type: ignore[override]
        """Returns the stored student with its fingerprint.

        Raises:
            DatasetError: If there is none, it is not complete, or a file is not what was stored.
        """
        try:
            return open_student(self._filepath)
        except ValueError as error:
            raise DatasetError(str(error)) from error
