"""The catalog's way to the embedded corpora."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.corpora.layouts import read_corpus
from gmail_kedro.corpora.protocols import CorpusProtocol
from gmail_kedro.interfaces import Corpus
from gmail_kedro.mini.corpus import (
    CLASSIFICATION_FILE,
    DATASET_FILE,
    IMAGE_FOLDER,
    LONG_CAPTION_FILE,
    WorldParams,
    holds_world,
    open_world,
    write_mini_world,
)
from gmail_kedro.mini.photographs import FileImages, WorldImages
from gmail_kedro.mini.worlds import KINDS, LONG_CAPTIONS, MAIN

logger = logging.getLogger(__name__)


class MiniWorldDataset(AbstractDataset[WorldParams, Corpus]):
    """The mini world on disk: saving parameters writes the world, loading reads it as any corpus is read.

    It exists when it is complete. Saving the parameters of the world that is already there does nothing. A world of
    the kind ``long_captions`` is read as ShareGPT4V is, one caption a picture; the others as COCO in Karpathy's file.

    Examples:
        In ``catalog.yml``:

        ```yaml
        corpus:
          type: gmail_kedro.datasets.mini_world.MiniWorldDataset
          filepath: data/01_raw/mini_world

        flickr_corpus:
          type: gmail_kedro.datasets.mini_world.MiniWorldDataset
          filepath: data/01_raw/mini_flickr
          name: mini_flickr
          kind: flickr
        ```

        In Python:

        ```python
        dataset = MiniWorldDataset(filepath="data/01_raw/mini_world")
        dataset.save(MiniWorldParams(train_count=100, val_count=20, test_count=20, seed=0))
        corpus = dataset.load()
        ```
    """

    def __init__(
        self, *, filepath: str, name: str = "mini", kind: str = MAIN, metadata: dict[str, Any] | None = None
    ) -> None:
        """Remembers the folder; nothing is opened.

        Args:
            filepath: The world's folder. It is replaced as a whole, so it must hold nothing else.
            name: What reports call the corpus.
            kind: Which world: ``main``, ``flickr`` or ``long_captions``.
            metadata: Ignored here; Kedro leaves it to plugins.

        Raises:
            DatasetError: If there is no such kind.
        """
        if kind not in KINDS:
            raise DatasetError(f"The kind of the corpus {name!r} must be one of {list(KINDS)}. Got {kind!r} instead.")
        self._folder = Path(filepath)
        self._name, self._kind = name, kind
        self.metadata = metadata

    def load(self) -> Corpus:
        """Returns the world as a corpus, with its classification tasks.

        Raises:
            DatasetError: If the world is not complete, of another kind, or was changed since it was written. A picture
                that was is refused when it is read.
        """
        files = open_world(self._folder, self._kind)
        is_long = self._kind == LONG_CAPTIONS
        corpus = read_corpus(
            "sharegpt4v" if is_long else "karpathy",
            {
                "annotations": self._folder / (LONG_CAPTION_FILE if is_long else DATASET_FILE),
                "images": self._folder / IMAGE_FOLDER,
            },
            name=self._name,
            protocol=CorpusProtocol(split="test" if is_long else None),
            expected={},
            classification=None if is_long else self._folder / CLASSIFICATION_FILE,
        )
        return replace(corpus, images=WorldImages(cast(FileImages, corpus.images), files))

    def save(self, data: WorldParams) -> None:
        """Writes the world, unless it is already there.

        Args:
            data: How many scenes of each split, and the seed.

        Raises:
            DatasetError: If ``data`` is something else, or the folder holds files that are no part of a mini world.
        """
        expected = KINDS[self._kind].params
        if not isinstance(data, expected):
            raise DatasetError(
                f"The mini world '{self._folder}' is made from {expected.__name__}. Got {type(data).__name__} instead. "
                "Return the parameters from the node."
            )
        if holds_world(self._folder, data, self._kind):
            logger.info("Mini world %s is already there", self._folder)
            return
        write_mini_world(self._folder, data, self._kind)

    def _exists(self) -> bool:
        return holds_world(self._folder, kind=self._kind)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "name": self._name, "kind": self._kind}
