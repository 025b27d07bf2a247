"""Features computed once: a folder of safetensors, each named by everything it depends on."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gmail_kedro.checksums import read_tensors, write_tensors
from gmail_kedro.interfaces import ImageSource

logger = logging.getLogger(__name__)
REMEDY = "They are computed anew."


@dataclass(frozen=True)
class FeatureStore:
    """A folder of cached features.

    Attributes:
        folder: One safetensors file an entry, with its checksum; the name is a hash of what the entry depends on.
    """

    folder: Path

    def get_or_compute(self, facts: dict[str, str], rows: int, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Returns the stored features of ``facts``, or computes and stores them.

        A stored entry is used only if every byte is as it was written (a second for each gigabyte) and it is of these
        facts; any other is reported, computed anew and replaced.

        Args:
            facts: Everything the features depend on: weights hash, precision, keys and content hash.
            rows: Number of rows that are expected.
            compute: Makes the features, float32 [rows, D].

        Raises:
            ValueError: If computed features are not finite or are zero.
        """
        path = self.folder / f"{_name(facts)}.safetensors"
        if path.exists():
            try:
                features = _read(path, facts, rows)
            except ValueError as error:
                logger.warning("%s", error)
            else:
                logger.info("Features of %d items reused from %s", rows, path.name)
                return features
        features = compute()
        _refuse_bad_rows(features)
        write_tensors(path, {"features": features}, {"of": facts})
        shutil.rmtree(self.parts(facts, []).folder, ignore_errors=True)
        return features

    def parts(self, facts: dict[str, str], sizes: Sequence[int]) -> "FeatureParts":
        """Returns where the parts of an entry are kept while it is computed.

        Args:
            facts: Everything the features depend on.
            sizes: Rows of each part.
        """
        return FeatureParts(self.folder / f"{_name(facts)}.parts", facts, tuple(sizes))


@dataclass(frozen=True)
class FeatureParts:
    """The finished parts of an entry that is being computed: a run that is cut off goes on after the last one.

    Attributes:
        folder: One file a part, named by its number.
        facts: Everything the features depend on.
        sizes: Rows of each part.
    """

    folder: Path
    facts: dict[str, str]
    sizes: tuple[int, ...]

    def read(self) -> list[torch.Tensor]:
        """Returns the finished parts, from the first up to the first that is missing, damaged or of another size."""
        found: list[torch.Tensor] = []
        for number, rows in enumerate(self.sizes):
            path = self._path(number)
            if not path.exists():
                break
            try:
                found.append(_read(path, self.facts, rows))
            except ValueError as error:
                logger.warning("%s", error)
                break
        if found:
            logger.info("Encoding goes on after %d of %d parts that were finished before", len(found), len(self.sizes))
        return found

    def write(self, number: int, features: torch.Tensor) -> None:
        """Keeps a part.

        Raises:
            ValueError: If its features are not finite or are zero.
        """
        _refuse_bad_rows(features)
        write_tensors(self._path(number), {"features": features}, {"of": self.facts})

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def stamp(source: ImageSource, key: str) -> bytes:
    """Returns what tells a picture from another: the source's own cheap answer, or else the whole picture.

    Args:
        source: Where the encoded pictures are; one with a method ``stamp`` need not read a picture to know it.
        key: Which one.
    """
    known = getattr(source, "stamp", None)
    return source.read(key) if known is None else known(key).encode()


def hash_items(keys: Sequence[str], read: Callable[[str], bytes]) -> str:
    """Returns a sha256 over keys and contents, in order; one content is held at a time.

    Args:
        keys: The items.
        read: Returns the content of one.
    """
    digest = hashlib.sha256()
    for key in keys:
        content = read(key)
        digest.update(f"{key}\x00{len(content)}\x00".encode())
        digest.update(content)
    return digest.hexdigest()


def _name(facts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path, facts: dict[str, str], rows: int) -> torch.Tensor:
    """Returns stored features, refusing any that are damaged or were computed from anything else."""
    tensors, stored = read_tensors(path, remedy=REMEDY)
    computed_from = stored["of"]
    for key in sorted(facts.keys() | computed_from.keys()):
        if facts.get(key) != computed_from.get(key):
            raise ValueError(
                f"The cached features {path} were computed from another {key}: {computed_from.get(key)!r} instead of "
                f"{facts.get(key)!r}. {REMEDY}"
            )
    features = tensors["features"]
    if features.dtype != torch.float32 or len(features) != rows or _bad_rows(features).any():
        raise ValueError(
            f"The cached features {path} should be {rows} finite float32 rows that are not zero. Got "
            f"{features.dtype} {list(features.shape)}, {int(_bad_rows(features).sum())} of them not so. {REMEDY}"
        )
    return features


def _bad_rows(features: torch.Tensor) -> torch.Tensor:
    return ~torch.isfinite(features).all(1) | (features.norm(dim=1) == 0)


def _refuse_bad_rows(features: torch.Tensor) -> None:
    bad = _bad_rows(features)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(features)} feature rows are not finite or are zero (first: row "
            f"{int(bad.nonzero()[0])}). Check the weights, or set run.precision: float32."
        )
