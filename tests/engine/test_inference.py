"""Encoding: a run that is cut off goes on where it was, with the same features."""

import pytest
import torch

from gmail_kedro.engine.feature_store import FeatureStore
from gmail_kedro.engine.inference import CHUNK_BATCHES, Encoding, encode_texts

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
