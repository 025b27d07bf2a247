"""The catalog's way to several classification sets at once."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.datasets.read_only import ReadOnlyDataset
from gmail_kedro.interfaces import LabelledImages


class ClassSetsDataset(ReadOnlyDataset[Mapping[str, Callable[[], LabelledImages]]]):
    """Classification sets by name, read-only: each is read when it is asked for, and once.

    Examples:
        In ``catalog.yml``:

        ```yaml
        class_sets:
          type: gmail_kedro.datasets.class_sets.ClassSetsDataset
          sets:
            food101: ${food101}
            dtd:
              type: gmail_kedro.datasets.labelled_images.LabelledImagesDataset
              name: dtd
              root: data/01_raw
        ```

        In Python:

        ```python
        kind = "gmail_kedro.datasets.labelled_images.LabelledImagesDataset"
        dataset = ClassSetsDataset(sets={"dtd": {"type": kind, "name": "dtd", "root": "data/01_raw"}})
        dtd = dataset.load()["dtd"]()
        ```
    """

    def __init__(self, *, sets: Mapping[str, dict[str, Any]], metadata: dict[str, Any] | None = None) -> None:
        """Remembers the sets; nothing is opened.

        Args:
            sets: The catalog entry of each set, by name; none where only a corpus's own labels are measured on.
            metadata: Ignored here; Kedro leaves it to plugins.
        """
        datasets = {name: AbstractDataset.from_config(name, dict(entry)) for name, entry in sets.items()}
        self._readers = {name: cache(partial(_read, dataset)) for name, dataset in datasets.items()}
        self.metadata = metadata

    def load(self) -> Mapping[str, Callable[[], LabelledImages]]:
        """Returns what reads each set; it raises ``FileNotFoundError`` or ``ValueError`` where it is not whole."""
        return self._readers

    def _describe(self) -> dict[str, Any]:
        return {"sets": list(self._readers)}


def _read(dataset: AbstractDataset[Any, LabelledImages]) -> LabelledImages:
    """Returns the set, or raises what was wrong with it without Kedro's words around it."""
    try:
        return dataset.load()
    except DatasetError as error:
        raise (error.__cause__ or error) from None
