"""Keys are found where they are, also when hashes collide."""

import numpy as np
import pyarrow as pa
import pytest

from gmail_kedro.corpora import tar_index
from gmail_kedro.corpora.tar_index import KeyRows


@pytest.mark.parametrize("count", [0, 1, 5, 70_000])
def test_every_key_is_found_and_no_other(count):
    names = [f"{number % 7:05d}/é{number}" for number in range(count)]
    index = KeyRows(pa.array(names, pa.large_string()))
    for row in range(0, count, max(1, count // 50)):
        assert index.find(names[row]) == row
    assert index.find("00000/x") is None


def test_equal_hashes_are_told_apart(monkeypatch):
    monkeypatch.setattr(tar_index, "_hash", lambda keys: np.array([len(key) for key in keys], np.uint64))
    index = KeyRows(pa.array(["aa", "b", "cc", "dd"]))
    assert [index.find(key) for key in ("aa", "b", "cc", "dd", "ee", "eee")] == [0, 1, 2, 3, None, None]
