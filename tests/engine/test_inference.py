"""Features: computed once, never mixed up, damaged ones computed anew; a run that is cut off goes on where it was."""

import logging

import pytest
import torch

from gmail_kedro.engine.inference import CHUNK_BATCHES, Encoding, FeatureStore, encode_texts, hash_items, stamp
from gmail_kedro.whole_files import write_tensors

TEXTS = [f"text {number}" for number in range(2 * CHUNK_BATCHES + 5)]


class CountingEncoder:
    """Encodes a text as its number plus one; stops the run when it has read so many."""

    name, fingerprint = "counting", "f" * 64

    def __init__(self, stops_after: int | None = None) -> None:
        self.read: list[int] = []
        self._stops_after = stops_after

    def tokenize(self, texts):
        return torch.tensor([[int(text.split()[1])] for text in texts])

    def encode_text(self, tokens):
        if self._stops_after is not None and len(self.read) >= self._stops_after:
            raise KeyboardInterrupt
        self.read += tokens[:, 0].tolist()
        return torch.cat([tokens + 1.0, tokens * 2.0], dim=1)


@pytest.mark.reliability(16)
def test_a_run_that_is_cut_off_encodes_only_what_was_not_finished(tmp_path):
    def encode(encoder, folder):
        return encode_texts(
            encoder, TEXTS, Encoding(FeatureStore(tmp_path / folder), 1, torch.device("cpu"), "float32")
        )

    whole = encode(CountingEncoder(), "straight")
    with pytest.raises(KeyboardInterrupt):
        encode(CountingEncoder(stops_after=CHUNK_BATCHES + 3), "cut")
    again = CountingEncoder()
    assert torch.equal(encode(again, "cut"), whole)
    assert again.read == list(range(CHUNK_BATCHES, len(TEXTS)))
    straight, cut = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("straight", "cut")
    )
    assert straight == cut and len(cut) == 1


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


def entry_of(store, facts=FACTS, rows=2):
    """Stores an entry and returns its file."""
    before = set(store.folder.glob("*.safetensors"))
    store.get_or_compute(facts, rows, lambda: torch.arange(1.0, 1 + 3 * rows).view(rows, 3))
    return next(path for path in store.folder.glob("*.safetensors") if path not in before)


def assert_computed_anew(store, message, caplog, rows=2):
    """Checks that an entry is reported, not used, and replaced by what is computed."""
    caplog.clear()
    wanted = torch.full((rows, 3), 7.0)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(store.get_or_compute(FACTS, rows, lambda: wanted.clone()), wanted)
    assert len(caplog.messages) == 1
    assert message in caplog.text and "computed anew" in caplog.text and ".safetensors" in caplog.text

    def fail():
        raise AssertionError("computed again")

    assert torch.equal(store.get_or_compute(FACTS, rows, fail), wanted)


@pytest.mark.reliability(16)
def test_one_flipped_bit_anywhere_is_found_and_the_features_are_computed_anew(tmp_path, caplog):
    store = FeatureStore(tmp_path)
    entry = entry_of(store)
    whole = entry.read_bytes()
    for place in [0, 9, whole.index(b"abc"), whole.index(b"sha256") + 12, len(whole) - 24, len(whole) - 1]:
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert_computed_anew(store, entry.name, caplog)


@pytest.mark.reliability(16)
def test_a_cut_short_or_otherwise_wrong_entry_is_computed_anew(tmp_path, caplog):
    store = FeatureStore(tmp_path)
    entry = entry_of(store)
    entry.write_bytes(entry.read_bytes()[:20])
    assert_computed_anew(store, "cannot be read", caplog)
    assert_computed_anew(store, "should be 5 finite float32 rows", caplog, rows=5)
    for features in (torch.ones(5, 3, dtype=torch.float16), torch.full((5, 3), torch.nan), torch.zeros(5, 3)):
        write_tensors(entry, {"features": features}, {"of": FACTS})
        assert_computed_anew(store, "should be 5 finite float32 rows", caplog, rows=5)


@pytest.mark.reliability(16)
def test_an_entry_without_a_checksum_is_computed_anew(tmp_path, caplog):
    from safetensors.torch import save_file

    store = FeatureStore(tmp_path)
    save_file({"features": torch.ones(2, 3)}, entry_of(store), metadata={"facts": "{}"})
    assert_computed_anew(store, "with a checksum", caplog)


@pytest.mark.reliability(16)
def test_a_build_that_is_cut_off_goes_on_after_its_last_whole_part(tmp_path):
    store, sizes = FeatureStore(tmp_path), [2, 2, 1]
    made = [torch.full((rows, 3), float(number + 1)) for number, rows in enumerate(sizes)]
    folder = store.parts_of(FACTS)
    assert store.read_parts(FACTS, sizes) == []
    for number in (0, 1):
        store.write_part(FACTS, number, made[number])
    assert [part.tolist() for part in store.read_parts(FACTS, sizes)] == [part.tolist() for part in made[:2]]
    assert store.read_parts(FACTS | {"encoder": "abd"}, sizes) == []
    assert store.read_parts(FACTS, [3, 2]) == []  # of another batch size
    first = folder / "000000.safetensors"
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + b"x")
    assert store.read_parts(FACTS, sizes) == []  # the second alone is of no use
    first.write_bytes(whole)
    with pytest.raises(ValueError, match="1 of 1 feature rows are not finite"):
        store.write_part(FACTS, 2, torch.full((1, 3), torch.nan))
    store.get_or_compute(FACTS, 5, lambda: torch.cat([*store.read_parts(FACTS, sizes), made[2]]))
    assert not folder.exists()


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
def test_an_entry_computed_from_anything_else_is_computed_anew(tmp_path, key, caplog):
    store = FeatureStore(tmp_path)
    entry, other = entry_of(store), entry_of(store, FACTS | {key: "other"})
    entry.write_bytes(other.read_bytes())  # as if two names had collided
    assert_computed_anew(store, f"computed from another {key}: 'other' instead of '{FACTS[key]}'", caplog)


def test_a_source_that_knows_its_images_is_not_read():
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
