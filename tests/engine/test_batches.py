"""Rows, random numbers and images of a step: the same whichever way they come; images decoded once, ahead of it."""

import threading
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from gmail_kedro.engine import batches as module
from gmail_kedro.engine.batches import FrozenActivations, PixelBatches, Stream, batch_rows, stream_rng


def preprocess(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32))


class Images:
    """Plain images whose colour is their key; counts reads and says in which thread they happened."""

    def __init__(self, broken=None):
        self.read_keys, self.threads, self._broken = [], set(), broken
        self.gate = threading.Event()
        self.gate.set()

    def read(self, key):
        self.gate.wait(5)
        self.read_keys.append(key)
        self.threads.add(threading.current_thread().name.split("_")[0])
        if key == self._broken:
            return b"no image"
        stream = BytesIO()
        Image.new("RGB", (4, 4), (int(key), 0, 0)).save(stream, "PNG")
        return stream.getvalue()


@pytest.fixture(params=[True, False], ids=["kept in memory", "too many to keep"])
def keeps(request):
    return request.param


def batches_of(source, keys, keeps=True):
    return PixelBatches(preprocess, source, keys, **({} if keeps else {"limit_bytes": 0}))


def test_rows_come_in_the_order_they_are_asked_for_prefetched_or_not(keeps):
    batches = batches_of(Images(), ["5", "6", "7", "5"], keeps)
    batches.prefetch([1, 3])
    assert batches[[3, 1, 0, 2, 1]][:, 0, 0, 0].tolist() == [5, 6, 5, 7, 6]
    assert len(batches) == 4


def test_an_image_is_read_once_if_it_fits_and_once_a_batch_if_not(keeps):
    source = Images()
    batches = batches_of(source, ["1", "2", "1"], keeps)
    for _ in range(3):
        batches[[0, 1, 2]]
    assert source.read_keys.count("2") == (1 if keeps else 3)


def test_what_is_prefetched_is_decoded_meanwhile_and_not_again():
    source = Images()
    batches = batches_of(source, ["1", "2", "3"])
    source.gate.clear()
    batches.prefetch([1, 2])  # returns at once, though nothing can be read
    source.gate.set()
    assert batches[[2, 1]][:, 0, 0, 0].tolist() == [3, 2]
    assert sorted(source.read_keys) == ["2", "3"] and "decode" in source.threads


def test_a_broken_image_is_named_when_its_batch_comes_and_others_are_not_harmed():
    batches = batches_of(Images(broken="9"), ["1", "9", "2"])
    batches.prefetch([1, 2])
    assert batches[[0, 2]].shape == (2, 4, 4, 3)
    with pytest.raises(ValueError, match="'9'"):
        batches[[1]]


@pytest.mark.reliability(14)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_epoch_shows_every_id_once_in_an_order_of_seed_and_epoch_alone(keeps, workers, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: workers)
    ids = list(range(100, 124))
    batches = batches_of(Images(), list(map(str, ids)), keeps)

    def epoch(number):
        seen = []
        for index in range(number * 4, number * 4 + 4):
            batches.prefetch(batch_rows(index + 1, count=24, batch_size=6, seed=3))
            seen += batches[batch_rows(index, count=24, batch_size=6, seed=3)][:, 0, 0, 0].tolist()
        return seen

    second, first = epoch(1), epoch(0)
    for number, seen in enumerate((first, second)):
        assert sorted(seen) == ids
        assert seen == [ids[row] for row in np.random.default_rng((3, number)).permutation(24)]
    assert first != second


def run(pixels):
    return pixels.reshape(len(pixels), -1, 3) / 3


ONE = 4 * 4 * 3 * 2  # sixteen patches of width three in half precision


def activations_of(source, limit_bytes, **options):
    pixels = batches_of(source, ["10", "20", "10", "30"], keeps=False)
    return FrozenActivations(pixels, run, limit_bytes=limit_bytes, **options)


@pytest.mark.parametrize(("limit_bytes", "is_kept"), [(3 * ONE, True), (3 * ONE - 1, False), (0, False)])
def test_activations_of_all_images_are_kept_or_none(limit_bytes, is_kept):
    source = Images()
    activations = activations_of(source, limit_bytes, dtype=torch.float16)
    first = activations[[0, 2, 3]]
    assert first.dtype == torch.float16 and first.shape == (3, 16, 3) and len(activations) == 4
    assert torch.allclose(first[:, 0, 0].float(), torch.tensor([10.0, 10.0, 30.0]) / 3, atol=0.01)
    assert torch.equal(activations[[3, 0]], first[[2, 0]])
    assert sorted(source.read_keys) == (["10", "30"] if is_kept else ["10", "10", "30", "30"])
    assert activations.kept_count == (2 if is_kept else 0)


def test_known_activations_need_no_image_and_prefetching_them_reads_none():
    source = Images()
    activations = activations_of(source, 1 << 20)
    activations[[0, 3]]
    activations.prefetch([0, 1, 3])
    assert torch.equal(activations[[1]], run(torch.full((1, 4, 4, 3), 20.0) * torch.tensor([1.0, 0.0, 0.0])))
    assert sorted(source.read_keys) == ["10", "20", "30"]


def test_activations_that_must_be_kept_and_do_not_fit_are_refused():
    activations = activations_of(Images(), 3 * ONE, remedy="Set it to false.")  # in single precision: twice as much
    with pytest.raises(ValueError, match=r"3 images would take .* GiB are allowed\. Set it to false"):
        activations[[0]]


@pytest.mark.reliability(14)
def test_every_row_once_per_epoch_and_order_is_a_function_of_the_seed():
    rows = np.concatenate([batch_rows(index, count=12, batch_size=4, seed=1) for index in range(3)])
    assert sorted(rows) == list(range(12))
    assert np.array_equal(rows[:4], batch_rows(0, count=12, batch_size=4, seed=1))
    assert not np.array_equal(rows[:4], batch_rows(3, count=12, batch_size=4, seed=1))
    assert len(batch_rows(0, count=3, batch_size=10, seed=0)) == 3


def test_a_stream_is_a_function_of_seed_name_and_index():
    draws = {
        (seed, stream, index): stream_rng(seed, stream, index).random()
        for seed in (0, 1)
        for stream in set(Stream)
        for index in (0, 1)
    }
    assert len(set(draws.values())) == len(draws)
    assert all(stream_rng(*place).random() == value for place, value in draws.items())


def test_a_name_stands_for_the_number_it_always_had():
    assert stream_rng(3, Stream.MIXED_ROWS).random() == np.random.default_rng((3, 21)).random()
    assert stream_rng(3, Stream.CAPTIONER_NOISE, 7).random() == np.random.default_rng((3, 31, 7)).random()
