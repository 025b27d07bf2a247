"""The feature store: computed once, never mixed up, damaged entries refused."""

import pytest
import torch

from gmail_kedro.engine.features import FeatureStore, hash_items, stamp

FACTS = {"encoder": "abc", "items": "1"}


def test_second_call_reads_and_other_facts_compute(tmp_path):
    store, calls = FeatureStore(tmp_path), []

    def compute():
        calls.append(1)
        return torch.full((2, 3), float(len(calls)))

    first = store.get_or_compute(FACTS, 2, compute)
    again = store.get_or_compute(dict(FACTS), 2, compute)
    assert torch.equal(first, again) and len(calls) == 1
    other = store.get_or_compute(FACTS | {"encoder": "abd"}, 2, compute)
    assert float(other[0, 0]) == 2.0


def test_damaged_or_short_entries_are_refused(tmp_path):
    store = FeatureStore(tmp_path)
    store.get_or_compute(FACTS, 2, lambda: torch.ones(2, 3))
    with pytest.raises(ValueError, match="should have 5 finite rows"):
        store.get_or_compute(FACTS, 5, lambda: torch.ones(5, 3))
    entry = next(tmp_path.glob("*.safetensors"))
    entry.write_bytes(entry.read_bytes()[:20])
    with pytest.raises(ValueError, match="cannot be read"):
        store.get_or_compute(FACTS, 2, lambda: torch.ones(2, 3))


@pytest.mark.parametrize("bad", [float("nan"), 0.0])
def test_rows_without_direction_are_refused_and_not_stored(tmp_path, bad):
    features = torch.ones(3, 2)
    features[1] = bad
    with pytest.raises(ValueError, match="1 of 3 feature rows are not finite or are zero .first: row 1"):
        FeatureStore(tmp_path).get_or_compute(FACTS, 3, lambda: features)
    assert list(tmp_path.iterdir()) == []


def test_hash_depends_on_keys_contents_and_order():
    def hash_of(keys, *contents):
        return hash_items(keys, dict(zip(keys, contents, strict=True)).__getitem__)

    base = hash_of(["a", "b"], b"1", b"2")
    assert base != hash_of(["b", "a"], b"2", b"1")
    assert base != hash_of(["a", "b"], b"1", b"3")
    assert base != hash_of(["a", "b"], b"12", b"")


@pytest.mark.parametrize("key", ["encoder", "items"])
def test_an_entry_computed_from_anything_else_is_refused(tmp_path, key):
    store = FeatureStore(tmp_path)
    store.get_or_compute(FACTS, 2, lambda: torch.ones(2, 3))
    entry = next(tmp_path.glob("*.safetensors"))
    changed = FACTS | {key: "other"}
    store.get_or_compute(changed, 2, lambda: torch.ones(2, 3))
    wanted = next(path for path in tmp_path.glob("*.safetensors") if path != entry)
    wanted.write_bytes(entry.read_bytes())  # as if two names had collided
    with pytest.raises(ValueError, match=f"computed from another {key}: '.*' instead of 'other'"):
        store.get_or_compute(changed, 2, lambda: torch.ones(2, 3))


def test_a_source_that_knows_its_pictures_is_not_read():
    class Reads:
        def read(self, key):
            return b"content of " + key.encode()

    class Knows:
        def read(self, key):
            raise AssertionError("read")

        def stamp(self, key):
            return f"7 bytes, changed on {key}"

    assert stamp(Reads(), "a") == b"content of a"
    assert stamp(Knows(), "a") == b"7 bytes, changed on a" != stamp(Knows(), "b")
