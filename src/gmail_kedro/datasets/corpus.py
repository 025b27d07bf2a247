"""The catalog's way to a captioned corpus in Karpathy's layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.corpora.karpathy import TRAIN_SPLITS, read_karpathy_corpus
from gmail_kedro.interfaces import Corpus


class KarpathyCorpusDataset(AbstractDataset[None, Corpus]):
    """A captioned corpus in Karpathy's layout, read-only: COCO, Flickr8k, Flickr30k or one's own.

    Relative paths are seen from the working directory, which for ``kedro run`` is the project.

    Examples:
        In ``catalog.yml``:

        ```yaml
        corpus:
          type: gmail_kedro.datasets.corpus.KarpathyCorpusDataset
          name: coco
          annotations: data/01_raw/coco/dataset_coco.json
          images: data/01_raw/coco
          train_splits: [train, restval]
        ```

        In Python:

        ```python
        dataset = KarpathyCorpusDataset(name="coco", annotations="dataset_coco.json", images="coco")
        corpus = dataset.load()
        corpus.images.read(corpus.captions.image_id[0])
        ```
    """

    def __init__(
        self,
        *,
        name: str,
        annotations: str,
        images: str,
        classification: str | None = None,
        train_splits: Sequence[str] = TRAIN_SPLITS,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Remembers where the corpus lies; nothing is opened.

        Args:
            name: What reports call the corpus.
            annotations: The ``dataset_*.json``.
            images: The folder its ``filepath`` and ``filename`` are seen from.
            classification: A file as ``corpora.classification`` reads it, or None.
            train_splits: Splits of the file that make up ``train``.
            metadata: Ignored here; Kedro leaves it to plugins.
        """
        self._name = name
        self._annotations = Path(annotations)
        self._images = Path(images)
        self._classification = None if classification is None else Path(classification)
        self._train_splits = tuple(train_splits) if not isinstance(train_splits, str) else train_splits
        self.metadata = metadata

    def load(self) -> Corpus:
        """Returns the corpus: captions in memory, pictures read when asked for.

        Raises:
            DatasetError: If a file is absent or not of its layout; the message names the file and the entry.
        """
        return read_karpathy_corpus(
            self._annotations,
            self._images,
            name=self._name,
            classification=self._classification,
            train_splits=self._train_splits,
        )

    def save(self, data: None) -> None:
        """Refuses: a corpus of photographs is not ours to write.

        Args:
            data: Anything.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"The corpus {self._name!r} ('{self._annotations}') is read-only: nothing can be saved to it. The pipeline "
            "mini_world writes the embedded corpus only; with your own corpus, leave it out."
        )

    def _exists(self) -> bool:
        return self._annotations.is_file() and self._images.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "annotations": str(self._annotations),
            "images": str(self._images),
            "classification": None if self._classification is None else str(self._classification),
            "train_splits": self._train_splits,
        }
