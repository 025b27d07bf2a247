"""The base of all catalog entries that are loaded and never saved."""

from typing import Any, Generic, NoReturn, TypeVar

from kedro.io import AbstractDataset, DatasetError

Loaded = TypeVar("Loaded")


class ReadOnlyDataset(AbstractDataset[Any, Loaded], Generic[Loaded]):
    """A dataset whose files are not ours to write: a corpus, a benchmark, or what follows from a seed."""

    @property
    def read_only(self) -> str:
        """Says that nothing can be saved here; hooks refuse a run by it before its first node."""
        return f"{self} is read-only: nothing can be saved to it. Use it as an input of the pipeline."

    def save(self, data: Any) -> NoReturn:
        """Refuses.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(self.read_only)
