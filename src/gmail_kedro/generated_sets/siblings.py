"""Opens the judge of a shard, with the earlier samples of its captions that lie in other shards.

Samples of one caption are the pictures most likely to repeat each other, and a plan may put them into different
shards. Shards are made in plan order, so the earlier samples are there when a later one is judged.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from gmail_kedro.generated_sets.pictures import Row
from gmail_kedro.generated_sets.quality import QualityGate, ShardJudge, hash_image
from gmail_kedro.generated_sets.shards import ShardError, index_shard
from gmail_kedro.generated_sets.stored import shard_path
from gmail_kedro.images.decoding import decode_image

SHARDS_KEPT, HASHES_KEPT = 32, 100_000  # some 10 and 40 MB


class ShardJudges:
    """Judges of the shards of one set.

    Args:
        gate: Judges each picture by itself.
        plan: All pictures of the set.
        folder: Home of the set.

    Attributes:
        gate: As given.
    """

    def __init__(self, gate: QualityGate, plan: pd.DataFrame, folder: Path) -> None:
        self.gate, self._plan, self._folder = gate, plan, Path(folder)

    def open(self, rows: Sequence[Row]) -> ShardJudge:
        """Returns a judge for the shard of these rows."""
        siblings: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
        if self.gate.params.duplicate_distance is not None and any(row["sample_index"] for row in rows):
            for shard_id, caption_ids in self._find(rows).items():
                for key, image_hash in self._hash_shard(shard_id, set(caption_ids)):
                    siblings[caption_ids[key]].append((key, image_hash))
        return ShardJudge(self.gate, siblings)

    def _find(self, rows: Sequence[Row]) -> dict[str, dict[str, str]]:
        """Returns the caption of each earlier sample, by its shard and key."""
        pairs = [(f"{row['caption_id']}/{k}", row["caption_id"]) for row in rows for k in range(row["sample_index"])]
        places = self._index.get_indexer([key for key, _ in pairs])
        first = int(self._index.get_indexer([rows[0]["key"]])[0])
        found: dict[str, dict[str, str]] = {}
        for (key, caption_id), place in zip(pairs, places.tolist(), strict=True):
            if 0 <= place < first:
                found.setdefault(self._plan["shard_id"].iat[place], {})[key] = caption_id
        return found

    @cached_property
    def _index(self) -> "pd.Index[str]":
        return pd.Index(self._plan["key"])

    def _hash_shard(self, shard_id: str, keys: set[str]) -> Iterator[tuple[str, np.ndarray]]:
        path = shard_path(self._folder, shard_id)
        try:
            changed_at = path.stat().st_mtime_ns
            places = _index(path, changed_at)
        except (FileNotFoundError, ShardError):
            return
        for key, (offset, size) in places.items():
            if key in keys:
                yield key, _hash_picture(path, changed_at, key, offset, size)


# Every later sample asks for the same earlier ones: they are decoded once. A shard that is written anew is another one.
@lru_cache(maxsize=SHARDS_KEPT)
def _index(path: Path, changed_at: int) -> dict[str, tuple[int, int]]:
    return index_shard(path)


@lru_cache(maxsize=HASHES_KEPT)
def _hash_picture(path: Path, changed_at: int, key: str, offset: int, size: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(offset)
        return hash_image(decode_image(file.read(size), name=key))
