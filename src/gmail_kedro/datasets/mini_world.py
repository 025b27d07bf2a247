"""The catalog's way to the embedded corpus."""

import logging
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.corpora.layouts import read_corpus
from gmail_kedro.corpora.protocols import CorpusProtocol
from gmail_kedro.interfaces import Corpus
from gmail_kedro.mini.corpus import (
    CLASSIFICATION_FILE,
    DATASET_FILE,
    IMAGE_FOLDER,
    check_world,
    holds_world,
    write_mini_world,
)
from gmail_kedro.params import MiniWorldParams

logger = logging.getLogger(__name__)


class MiniWorldDataset(AbstractDataset[MiniWorldParams, Corpus]):
    """The mini world on disk: saving parameters writes the world, loading reads it as any corpus is read.

    It exists when it is complete. Saving the parameters of the world that is already there does nothing.

    Examples:
        In ``catalog.yml``:

        ```yaml
        corpus:
          type: gmail_kedro.datasets.mini_world.MiniWorldDataset
          filepath: data/01_raw/mini_world
        ```

        In Python:

        ```python
        dataset = MiniWorldDataset(filepath="data/01_raw/mini_world")
        dataset.save(MiniWorldParams(train_count=100, val_count=20, test_count=20, seed=0))
        corpus = dataset.load()
        ```
    """

    def __init__(self, *, filepath: str, name: str = "mini", metadata: dict[str, Any] | None = None) -> None:
        """Remembers the folder; nothing is opened.

        Args:
            filepath: The world's folder. It is replaced as a whole, so it must hold nothing else.
            name: What reports call the corpus.
            metadata: Ignored here; Kedro leaves it to plugins.
        """
        self._folder = Path(filepath)
        self._name = name
        self.metadata = metadata

    def load(self) -> Corpus:
        """Returns the world as a corpus, with its classification tasks.

        Raises:
            DatasetError: If the world is not complete or was changed since it was written.
        """
        check_world(self._folder)
        return read_corpus(
            "karpathy",
            {"annotations": self._folder / DATASET_FILE, "images": self._folder / IMAGE_FOLDER},
            name=self._name,
            protocol=CorpusProtocol(),
            expected={},
            classification=self._folder / CLASSIFICATION_FILE,
        )

    def save(self, data: MiniWorldParams) -> None:
        """Writes the world, unless it is already there.

        Args:
            data: How many scenes of each split, and the seed.

        Raises:
            DatasetError: If ``data`` is something else, or the folder holds files that are no part of a mini world.
        """
        if not isinstance(data, MiniWorldParams):
            raise DatasetError(
                f"The mini world '{self._folder}' is made from MiniWorldParams. Got {type(data).__name__} instead. "
                "Return the parameters from the node."
            )
        if holds_world(self._folder, data):
            logger.info("Mini world %s is already there", self._folder)
            return
        write_mini_world(self._folder, data)

    def _exists(self) -> bool:
        return holds_world(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "name": self._name}
