"""The catalog's way to a classification set that stands by itself."""

from pathlib import Path
from typing import Any

from gmail_kedro.corpora.class_tars import read_class_tars
from gmail_kedro.corpora.classification_sets import CLASS_SETS, Division, read_class_set
from gmail_kedro.datasets.read_only import ReadOnlyDataset
from gmail_kedro.interfaces import LabelledImages


class LabelledImagesDataset(ReadOnlyDataset[LabelledImages]):
    """One of the eight classification sets, read-only, as torchvision has it on disk or as WebDataset tars.

    Examples:
        In ``catalog.yml``:

        ```yaml
        sun397:
          type: gmail_kedro.datasets.labelled_images.LabelledImagesDataset
          name: sun397
          root: data/01_raw
          listing: data/01_raw/SUN397/Testing_01.txt
          training_listing: data/01_raw/SUN397/Training_01.txt

        caltech101:
          type: gmail_kedro.datasets.labelled_images.LabelledImagesDataset
          name: caltech101
          root: data/01_raw
          train_per_class: 30

        dtd_tars:
          type: gmail_kedro.datasets.labelled_images.LabelledImagesDataset
          name: dtd
          tars: data/01_raw/wds_vtab-dtd
        ```

        In Python:

        ```python
        food = LabelledImagesDataset(name="food101", root="data/01_raw").load()
        ```
    """

    def __init__(
        self,
        *,
        name: str,
        root: str | None = None,
        tars: str | None = None,
        listing: str | None = None,
        training_listing: str | None = None,
        train_per_class: int | None = None,
        check_counts: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Remembers where the set lies; nothing is opened.

        Args:
            name: A key of ``corpora.classification_sets.CLASS_SETS``.
            root: The folder that torchvision calls root.
            tars: In place of ``root``: a folder of CLIP_benchmark's layout.
            listing: With ``root``, a file of the images that are measured on; without it all are, or the test split
                of a set that has one.
            training_listing: With ``root``, a file of the images that may be trained on, for a set that comes
                without a training split.
            train_per_class: In place of both listings, how many images of each class are drawn to be trained on;
                the others are measured on.
            check_counts: With ``root``, hold the set to its numbers of classes and images.
            metadata: Ignored here; Kedro leaves it to plugins.
        """
        if name not in CLASS_SETS:
            raise ValueError(f"The classification set {name!r} is unknown. Choose one of {sorted(CLASS_SETS)}.")
        if (root is None) == (tars is None):
            raise ValueError(
                f"The classification set {name!r} takes root or tars, one of them. Got {root!r}, {tars!r}."
            )
        if train_per_class is not None and (listing or training_listing or train_per_class < 1):
            raise ValueError(
                f"The classification set {name!r} takes listings or train_per_class, 1 or more. Got {listing!r}, "
                f"{training_listing!r}, {train_per_class!r}."
            )
        self._name, self._root, self._tars = name, root, tars
        listed, trained = (None if given is None else Path(given) for given in (listing, training_listing))
        self._division = Division(listed, trained, train_per_class)
        self._check_counts = check_counts
        self.metadata = metadata

    def load(self) -> LabelledImages:
        """Returns the set; images are read when asked for."""
        if self._tars is not None:
            return read_class_tars(Path(self._tars), name=self._name, metric=CLASS_SETS[self._name].metric)
        root = Path(str(self._root))
        return read_class_set(self._name, root, division=self._division, check_counts=self._check_counts)

    def _exists(self) -> bool:
        folder = self._tars or str(Path(str(self._root)) / CLASS_SETS[self._name].folder)
        return Path(folder).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "root": self._root, "tars": self._tars, "division": self._division}
