"""Features computed once: a folder of safetensors, each named by everything it depends on."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gmail_kedro.interfaces import ImageSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureStore:
    """A folder of cached features.

    Attributes:
        folder: One safetensors file an entry; the name is a hash of what the entry depends on.
    """

    folder: Path

    def get_or_compute(self, facts: dict[str, str], rows: int, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Returns the stored features of ``facts``, or computes and stores them.

        Args:
            facts: Everything the features depend on: weights hash, precision, keys and content hash.
            rows: Number of rows that are expected.
            compute: Makes the features, float32 [rows, D].

        Raises:
            ValueError: If the stored entry is damaged, or computed features are not finite or are zero.
        """
        from safetensors.torch import save_file

        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            logger.info("Features of %d items reused from %s", rows, path.name)
            return _read(path, facts, rows)
        features = compute().contiguous()
        _refuse_bad_rows(features)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        save_file({"features": features}, unfinished, metadata={"facts": json.dumps(facts)})
        os.replace(unfinished, path)
        return features


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


def _read(path: Path, facts: dict[str, str], rows: int) -> torch.Tensor:
    """Returns a stored entry, refusing one that is damaged or was computed from anything else."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            computed_from = json.loads(stored.metadata()["facts"])
            features = stored.get_tensor("features")
    except Exception as error:
        raise ValueError(f"The cached features {path} cannot be read ({error}). Delete the file.") from error
    for key in sorted(facts.keys() | computed_from.keys()):
        if facts.get(key) != computed_from.get(key):
            raise ValueError(
                f"The cached features {path} were computed from another {key}: {computed_from.get(key)!r} instead of "
                f"{facts.get(key)!r}. Delete the file."
            )
    if features.shape[0] != rows or not torch.isfinite(features).all():
        raise ValueError(f"The cached features {path} should have {rows} finite rows. Delete the file.")
    return features


def _refuse_bad_rows(features: torch.Tensor) -> None:
    bad = ~torch.isfinite(features).all(1) | (features.norm(dim=1) == 0)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(features)} feature rows are not finite or are zero (first: row "
            f"{int(bad.nonzero()[0])}). Check the weights, or set run.precision: float32."
        )
