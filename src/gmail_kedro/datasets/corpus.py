"""The catalog's way to a captioned corpus, whatever its layout on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmail_kedro.corpora.corpus_protocols import find_protocol, read_expected
from gmail_kedro.corpora.layouts import check_places, read_corpus
from gmail_kedro.corpora.skipped_entries import SKIP_LIMIT
from gmail_kedro.datasets.read_only import ReadOnlyDataset
from gmail_kedro.interfaces import Corpus

FROM_PROTOCOL = "protocol"


class CorpusDataset(ReadOnlyDataset[Corpus]):
    """A captioned corpus, read-only: COCO, Flickr30k, CC3M, CC12M, ShareGPT4V, a folder, a table, or one's own.

    The layout says which reader takes the other keys: ``karpathy``, ``coco``, ``flickr`` and ``sharegpt4v`` take
    ``annotations``, ``images`` and ``skip_missing``; ``table`` also ``columns`` and ``header``; ``webdataset`` takes
    ``tars``, ``index``, ``caption_key`` and ``fault_limit``; ``folder`` takes ``images``. Relative paths are seen from
    the working directory, which for ``kedro run`` is the project.

    Examples:
        In ``catalog.yml``:

        ```yaml
        corpus:
          type: gmail_kedro.datasets.corpus.CorpusDataset
          name: coco
          layout: karpathy
          protocol: coco_karpathy      # what is train, val and test, and how many that must be
          annotations: data/01_raw/coco/dataset_coco.json
          images: data/01_raw/coco
        ```

        In Python:

        ```python
        dataset = CorpusDataset(name="own", layout="folder", protocol={"held_out": {"val": 0.1}}, images="photos")
        corpus = dataset.load()
        corpus.images.read(corpus.captions.image_id[0])
        ```
    """

    def __init__(
        self,
        *,
        name: str,
        layout: str,
        protocol: str | Mapping[str, Any] | None = None,
        expected: str | Mapping[str, Any] | None = FROM_PROTOCOL,
        skip_limit: float = SKIP_LIMIT,
        classification: str | None = None,
        metadata: dict[str, Any] | None = None,
        **places: Any,
    ) -> None:
        """Remembers where the corpus lies; nothing is opened.

        Args:
            name: What reports call the corpus.
            layout: How it lies on disk.
            protocol: A name of ``PROTOCOLS`` or the fields of a ``CorpusProtocol``; None takes the
                files' own splits.
            expected: Counts by split, ``{train: {images: 113287, captions: 566747}}``; null counts nothing; left
                out, the protocol's.
            skip_limit: Largest share of the entries that may be left out as unusable.
            classification: A file as ``corpora.classification_tasks`` reads it, or None.
            metadata: Ignored here; Kedro leaves it to plugins.
            **places: The keys of the layout's reader.
        """
        # Checked here and not on loading, so that a wrong entry is refused with the catalog, before the first node.
        check_places(layout, places, name=name)
        if isinstance(skip_limit, bool) or not isinstance(skip_limit, int | float) or not 0 <= skip_limit <= 1:
            raise ValueError(f"The skip_limit of the corpus {name!r} must be in [0, 1]. Got {skip_limit!r} instead.")
        self._name, self._layout, self._places = name, layout, places
        self._protocol = find_protocol(protocol)
        counts: Any = {} if expected is None else expected
        self._expected = self._protocol.expected if counts == FROM_PROTOCOL else read_expected(counts)
        self._skip_limit = skip_limit
        self._classification = None if classification is None else Path(classification)
        self.metadata = metadata

    def load(self) -> Corpus:
        """Returns the corpus: captions in memory, images read when asked for."""
        return read_corpus(
            self._layout,
            self._places,
            name=self._name,
            protocol=self._protocol,
            expected=self._expected,
            skip_limit=self._skip_limit,
            classification=self._classification,
        )

    @property
    def read_only(self) -> str:
        """Says that nothing can be saved here, and what to run instead."""
        return (
            f"The corpus {self._name!r} ({self._home()}) is read-only: nothing can be saved to it. The pipeline "
            "mini_world, with which the default begins, writes the embedded corpus only; with your own corpus, run the "
            "rest of the default: --pipelines=gmail"
        )

    def _exists(self) -> bool:
        return all("*" in str(path) or Path(path).exists() for path in self._files())

    def _files(self) -> list[str]:
        return [str(self._places[key]) for key in ("annotations", "images", "tars") if key in self._places]

    def _home(self) -> str:
        return ", ".join(f"'{path}'" for path in self._files())

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "layout": self._layout, **self._places, "expected": dict(self._expected)}
