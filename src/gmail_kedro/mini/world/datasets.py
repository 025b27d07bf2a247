"""The catalog's way to what the mini world's nodes made: saving stores files, loading reads them as anybody's."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.corpora.corpus_protocols import CorpusProtocol
from gmail_kedro.corpora.layouts import read_corpus
from gmail_kedro.corpora.question_sets import read_mmmu, read_scienceqa
from gmail_kedro.interfaces import Corpus, Question
from gmail_kedro.mini.world.grammar import GRAMMAR
from gmail_kedro.mini.world.world_files import (
    CLASSIFICATION_FILE,
    DATASET_FILE,
    IMAGE_FOLDER,
    LONG_CAPTION_FILE,
    WORLD_FILE,
)
from gmail_kedro.mini.world.worlds import KINDS, LONG_CAPTIONS, MAIN
from gmail_kedro.mini.world.written_folder import open_folder, write_folder
from gmail_kedro.whole_files import SUMS, KnownFolder

logger = logging.getLogger(__name__)

Content = TypeVar("Content")
REMEDY = "Write it again: kedro run --pipeline=mini_world"
READERS: Mapping[str, Any] = {"scienceqa": (read_scienceqa, "test"), "mmmu": (read_mmmu, "validation")}


class _WrittenDataset(AbstractDataset[Mapping[str, bytes], Content]):
    """Files that a node of the mini world made, in a folder of their own."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def save(self, data: Mapping[str, bytes]) -> None:
        """Writes the files, unless the folder holds these very files.

        Args:
            data: Their contents by their paths in the folder.

        Raises:
            DatasetError: If the folder holds files that are no part of a mini world.
        """
        if write_folder(self._folder, data):
            logger.info("%d files written to %s", len(data), self._folder)
        else:
            logger.info("The mini world %s is already there", self._folder)

    def _exists(self) -> bool:
        return (self._folder / SUMS).is_file()


class MiniWorldDataset(_WrittenDataset[Corpus]):
    """A mini world on disk, read as any corpus is read, with every file held against its checksum.

    A world of the kind ``long_captions`` is read as ShareGPT4V is, one caption an image; the others as COCO in
    Karpathy's file.

    Examples:
        In ``catalog.yml``:

        ```yaml
        flickr_corpus:
          type: gmail_kedro.mini.world.datasets.MiniWorldDataset
          filepath: data/01_raw/mini_flickr
          name: mini_flickr
          kind: flickr
        ```

        In Python:

        ```python
        dataset = MiniWorldDataset(filepath="data/01_raw/mini_world")
        dataset.save(draw_world(MiniWorldParams(train_count=100, val_count=20, test_count=20, seed=0)))
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
        super().__init__(filepath, metadata)
        self._name, self._kind = name, kind

    def load(self) -> Corpus:
        """Returns the world as a corpus, with its classification tasks and its grammar.

        Raises:
            DatasetError: If the world is not complete, of another kind, or was changed since it was written. An image
                that was is refused when it is read: two thousand of them are not hashed for one that is asked for.
        """
        files = open_folder(self._folder, remedy=REMEDY, later=f"{IMAGE_FOLDER}/")
        if (found := self._stored_kind()) != self._kind:
            raise DatasetError(
                f"The mini world '{self._folder}' must be of the kind {self._kind!r}. Got {found!r}. {REMEDY}"
            )
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
        return replace(corpus, images=WorldImages(corpus.images, files), grammar=GRAMMAR)

    def _exists(self) -> bool:
        return super()._exists() and self._stored_kind() == self._kind

    def _stored_kind(self) -> str | None:
        try:
            facts = json.loads((self._folder / WORLD_FILE).read_text(encoding="utf-8"))
            return facts.get("kind", MAIN)
        except (OSError, ValueError, AttributeError):
            return None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "name": self._name, "kind": self._kind}


@dataclass(frozen=True)
class WorldImages:
    """A corpus's images, each held against its checksum when it is read (an ``ImageSource``).

    Attributes:
        modality: ``real``: these may not go through a student's route of generated images.
        images: The images as the corpus's reader found them, each a file; also tells their ``stamp`` and ``size``.
        files: The files of the world they are of.
    """

    modality: ClassVar[str] = "real"
    images: Any
    files: KnownFolder

    def read(self, key: str) -> bytes:
        """Returns the encoded image.

        Raises:
            FileNotFoundError: If the key is unknown or its file does not exist.
            DamagedFileError: If it is not what was written.
        """
        return self.files.read(self.images.path(key))

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does, without reading it."""
        return cast(str, self.images.stamp(key))

    def size(self, key: str) -> int:
        """Returns the bytes of an image, without reading it."""
        return cast(int, self.images.size(key))


class MiniQuestionsDataset(_WrittenDataset[list[Question]]):
    """Questions about scenes of the test handwriting, in a benchmark's own files and through its own reader.

    Example (YAML)::

        scienceqa_questions:
          type: gmail_kedro.mini.world.datasets.MiniQuestionsDataset
          benchmark: scienceqa
          filepath: data/01_raw/mini_scienceqa

    Args:
        benchmark: Whose files they are: ``scienceqa`` (with choices) or ``mmmu`` (open).
        filepath: The folder of the files. It is replaced as a whole, so it must hold nothing else.
        metadata: Ignored; for other tools.

    Raises:
        ValueError: If the benchmark is unknown.
    """

    def __init__(self, *, benchmark: str, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        if benchmark not in READERS:
            raise ValueError(f"The benchmark {benchmark!r} is unknown. Choose one of {sorted(READERS)}.")
        super().__init__(filepath, metadata)
        self._benchmark = benchmark

    def load(self) -> list[Question]:
        """Returns the questions.

        Raises:
            DatasetError: If they are not there, or a file is not what was written.
        """
        # by this node alone, because the whole pipeline is refused beside a corpus of one's own
        open_folder(self._folder, remedy=f"{REMEDY} --nodes=make_mini_questions")
        read, split = READERS[self._benchmark]
        return read(self._folder, split=split, check_counts=False)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "benchmark": self._benchmark}
