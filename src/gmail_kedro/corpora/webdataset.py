"""Reads corpora that are WebDataset tars (CC3M, CC12M as img2dataset and the hub's mirrors write them).

Captions are read once, tar by tar; pictures are read from their place in their tar.
"""

import glob
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from gmail_kedro.corpora.columns import CaptionColumns, Reading
from gmail_kedro.corpora.keys import KeyIndex
from gmail_kedro.corpora.skipping import SKIP_LIMIT, Skipped
from gmail_kedro.corpora.stamps import file_stamp
from gmail_kedro.corpora.tar_captions import read_tar_captions
from gmail_kedro.corpora.tree import require_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TarImages:
    """Encoded pictures in tars, each read from its place (an ``ImageSource``). Nothing stays open.

    Attributes:
        tars: The tars.
        keys: The key of each picture, N of them.
        tar_numbers: Position of each picture's tar, uint32 [N].
        offsets: First byte of each picture, uint64 [N].
        sizes: Bytes of each picture, uint32 [N].
        modality: ``real``: photographs may not go through a student's route of generated images.
    """

    modality: ClassVar[str] = "real"
    tars: Sequence[Path]
    keys: pa.Array
    tar_numbers: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, key: str) -> bytes:
        """Returns the encoded picture.

        Args:
            key: ``name of the tar/key of the sample``.

        Raises:
            FileNotFoundError: If there is no such picture, or its tar is gone.
            ValueError: If the tar was cut short since it was read.
        """
        row = self._find(key)
        tar, size = self.tars[self.tar_numbers[row]], int(self.sizes[row])
        with tar.open("rb") as file:
            file.seek(int(self.offsets[row]))
            content = file.read(size)
        if len(content) != size:
            raise ValueError(f"The picture {key!r} ends beyond '{tar}', which was cut short. Fetch the tar again.")
        return content

    def stamp(self, key: str) -> str:
        """Returns what changes when the picture does, without reading it: its tar's stamp, and its place in it.

        Args:
            key: ``name of the tar/key of the sample``.

        Raises:
            FileNotFoundError: If there is no such picture, or its tar is gone.
        """
        row = self._find(key)
        return f"{file_stamp(self.tars[self.tar_numbers[row]])} {self.offsets[row]} {self.sizes[row]}"

    def size(self, key: str) -> int:
        """Returns the bytes of a picture, without reading it.

        Raises:
            FileNotFoundError: If there is no such picture.
        """
        return int(self.sizes[self._find(key)])

    def _find(self, key: str) -> int:
        row = self._index.find(key)
        if row is None:
            known = self.keys[0].as_py() if len(self) else None
            raise FileNotFoundError(
                f"There is no picture {key!r} among the {len(self)} in the tars, such as {known!r}."
            )
        return row

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys)


def read_webdataset(
    tars: str,
    *,
    name: str,
    home: str = "",
    index: Path | None = None,
    caption_key: str | None = None,
    fault_limit: float = SKIP_LIMIT,
) -> Reading:
    """Returns the captions of WebDataset tars, tar by tar in the order of their names.

    A picture is called ``name of the tar/key of the sample``, and so is its caption where it is the only one. Of
    several, which are the lines of the ``.txt`` or a list in the ``.json``, each has its place behind the name:
    ``00000/000000007-0``.

    Args:
        tars: A pattern such as ``data/01_raw/cc3m/*.tar``; the tars must not be compressed.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        index: A folder for what was found, so that the next run need not read the tars; None keeps nothing.
        caption_key: Key of the caption, or the list of captions, in each ``.json``; None takes the ``.txt``.
        fault_limit: Largest share of the tars that may be cut off or damaged; what is whole in them is used.

    Raises:
        FileNotFoundError: If no tar is there.
        ValueError: If two tars share a name or are one file, or too many cannot be read to their end.
    """
    paths = _find_tars(tars, name, home)
    skipped, faults, parts = Skipped(), [], []
    columns = CaptionColumns(("caption_id", "image_id", "caption"), skipped)
    for number, path in enumerate(tqdm(paths, desc=f"reading the tars of {name}", disable=None, leave=False)):
        found = read_tar_captions(path, None if index is None else Path(index), caption_key)
        facts = json.loads(found.schema.metadata[b"facts"])
        if facts["fault"] is not None:
            faults.append(f"{path.name} ({facts['fault']})")
        for reason, (count, example) in facts["skipped"].items():
            skipped.add(reason, example, count=count)
        kept = found.filter(columns.add(found["caption_id"], found["key"], found["caption"], label="image_id"))
        names = kept["key"].to_numpy()
        is_first = np.r_[np.ones(min(1, len(names)), bool), names[1:] != names[:-1]]
        places = (kept[column].to_numpy()[is_first] for column in ("offset", "size"))
        parts.append((is_first, np.full(is_first.sum(), number, np.uint32), *places))
    _refuse_faults(faults, len(paths), fault_limit, name)
    captions = columns.frame()
    is_first, tar_numbers, offsets, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys = pa.array(captions["image_id"][is_first], pa.large_string())
    return Reading(captions, TarImages(paths, keys, tar_numbers, offsets, sizes), skipped)


def _find_tars(tars: str, name: str, home: str) -> list[Path]:
    paths = [Path(path) for path in sorted(glob.glob(str(tars)))]
    if not paths:
        require_file(Path(tars), name=name, home=home)
    stems = Counter(path.stem for path in paths)
    repeated = [stem for stem, count in stems.items() if count > 1]
    if repeated:
        raise ValueError(
            f"The tars of the corpus {name!r} must have different names, which become part of the picture ids. "
            f"{repeated[:3]} occur more than once in '{tars}'. Rename them or narrow the pattern."
        )
    places: dict[Path, Path] = {}
    for path in paths:
        if (known := places.setdefault(path.resolve(), path)) != path:
            raise ValueError(
                f"The tars of the corpus {name!r} must be different files, but '{path}' and '{known}' are one. Remove "
                "the link, or narrow the pattern."
            )
    return paths


def _refuse_faults(faults: list[str], total: int, limit: float, name: str) -> None:
    if not faults:
        return
    shown = "".join(f"\n- {fault}" for fault in faults[:5])
    if len(faults) > limit * total:
        raise ValueError(
            f"{len(faults)} of the {total} tars of the corpus {name!r} cannot be read to their end; its fault_limit "
            f"allows {limit:.2%}. Fetch them again, or raise fault_limit to use what is whole in them:{shown}"
        )
    logger.warning("Corpus %s: tars that cannot be read to their end, used as far as they go:%s", name, shown)
