"""Pictures by row: decoded once, ahead of their step, and the same whichever way they come."""

import threading
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gmail_kedro.engine import image_batches
from gmail_kedro.engine.batching import batch_rows
from gmail_kedro.engine.image_batches import PixelBatches

ENCODER = SimpleNamespace(preprocess=lambda image: torch.from_numpy(np.asarray(image, dtype=np.float32)))


class Pictures:
    """Plain pictures whose colour is their key; counts reads and says in which thread they happened."""

    def __init__(self, broken=None):
        self.read_keys, self.threads, self._broken = [], set(), broken
        self.gate = threading.Event()
        self.gate.set()

    def read(self, key):
        self.gate.wait(5)
        self.read_keys.append(key)
        self.threads.add(threading.current_thread().name.split("_")[0])
        if key == self._broken:
            return b"no picture"
        stream = BytesIO()
        Image.new("RGB", (4, 4), (int(key), 0, 0)).save(stream, "PNG")
        return stream.getvalue()


@pytest.fixture(params=[True, False], ids=["kept in memory", "too many to keep"])
def keeps(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(image_batches, "MEMORY_LIMIT_BYTES", 0)
    return request.param


def test_rows_come_in_the_order_they_are_asked_for_announced_or_not(keeps):
    batches = PixelBatches(ENCODER, Pictures(), ["5", "6", "7", "5"])
    batches.announce([1, 3])
    assert batches[[3, 1, 0, 2, 1]][:, 0, 0, 0].tolist() == [5, 6, 5, 7, 6]
    assert len(batches) == 4


def test_a_picture_is_read_once_if_it_fits_and_once_a_batch_if_not(keeps):
    source = Pictures()
    batches = PixelBatches(ENCODER, source, ["1", "2", "1"])
    for _ in range(3):
        batches[[0, 1, 2]]
    assert source.read_keys.count("2") == (1 if keeps else 3)


def test_what_is_announced_is_decoded_meanwhile_and_not_again():
    source = Pictures()
    batches = PixelBatches(ENCODER, source, ["1", "2", "3"])
    source.gate.clear()
    batches.announce([1, 2])  # returns at once, though nothing can be read
    source.gate.set()
    assert batches[[2, 1]][:, 0, 0, 0].tolist() == [3, 2]
    assert sorted(source.read_keys[1:]) == ["2", "3"] and "decode" in source.threads


def test_a_broken_picture_is_named_when_its_batch_comes_and_others_are_not_harmed():
    batches = PixelBatches(ENCODER, Pictures(broken="9"), ["1", "9", "2"])
    batches.announce([1, 2])
    assert batches[[0, 2]].shape == (2, 4, 4, 3)
    with pytest.raises(ValueError, match="'9'"):
        batches[[1]]


@pytest.mark.reliability(14)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_epoch_shows_every_id_once_in_an_order_of_seed_and_epoch_alone(keeps, workers, monkeypatch):
    monkeypatch.setattr(image_batches.os, "cpu_count", lambda: workers)
    ids = list(range(100, 124))
    batches = PixelBatches(ENCODER, Pictures(), list(map(str, ids)))

    def epoch(number):
        seen = []
        for index in range(number * 4, number * 4 + 4):
            batches.announce(batch_rows(index + 1, count=24, batch_size=6, seed=3))
            seen += batches[batch_rows(index, count=24, batch_size=6, seed=3)][:, 0, 0, 0].tolist()
        return seen

    second, first = epoch(1), epoch(0)
    for number, seen in enumerate((first, second)):
        assert sorted(seen) == ids
        assert seen == [ids[row] for row in np.random.default_rng((3, number)).permutation(24)]
    assert first != second
