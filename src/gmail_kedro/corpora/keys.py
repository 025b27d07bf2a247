"""Finds a key among millions in a few bytes each: sorted hashes in place of a dictionary."""

import numpy as np
import pyarrow as pa

BLOCK_ROWS = 65_536


class KeyIndex:
    """Positions of keys in a column, by hash: 16 bytes a key beside the column itself.

    Args:
        keys: The keys, N of them.
    """

    def __init__(self, keys: pa.Array) -> None:
        self._keys = keys
        starts = range(0, len(keys), BLOCK_ROWS)
        blocks = [_hash(keys.slice(start, BLOCK_ROWS).to_pylist()) for start in starts]
        hashes = np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, key: str) -> int | None:
        """Returns the position of the first such key, or None.

        Args:
            key: What to look for.
        """
        wanted = _hash([key])[0]
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._order[place])
            if self._keys[row].as_py() == key:  # two keys may share a hash
                return row
            place += 1
        return None


def _hash(keys: list[str]) -> np.ndarray:
    from pandas.util import hash_array

    return hash_array(np.array(keys, dtype=object), categorize=False)
