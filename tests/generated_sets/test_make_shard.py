"""Decoding, judging and encoding happen while the next batch is denoised, and change nothing."""

import threading
import time
from pathlib import Path

import pytest

from .painting import Painter, folder_bytes, generate, make_captions, make_work

# Five batches in one shard.
BATCHES = {"captions": make_captions(10, captions_per_image=1), "batch_size": 2, "shard_size": 10}


class SlowPainter(Painter):
    """Notes when each of its two steps starts and ends, and in which thread."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.events = seconds, []

    def denoise(self, prompts, seeds):
        return self._timed("denoise", super().denoise, prompts, seeds)

    def decode(self, latents):
        return self._timed("decode", super().decode, latents)

    def _timed(self, name, call, *arguments):
        start = time.perf_counter()
        time.sleep(self.seconds)
        result = call(*arguments)
        self.events.append((name, start, time.perf_counter(), threading.get_ident()))
        return result


def test_the_two_steps_overlap(tmp_path: Path) -> None:
    generate(make_work(**BATCHES), tmp_path / "warm")
    painter = SlowPainter(seconds=0.1)
    generate(make_work(painter=painter, **BATCHES), tmp_path / "set")
    denoised = [event for event in painter.events if event[0] == "denoise"]
    decoded = [event for event in painter.events if event[0] == "decode"]
    assert (len(denoised), len(decoded)) == (5, 5)
    assert {event[3] for event in denoised} == {threading.get_ident()}
    assert threading.get_ident() not in {event[3] for event in decoded}
    for (_, start, end, _), (_, next_start, next_end, _) in zip(decoded[:-1], denoised[1:], strict=True):
        assert max(start, next_start) < min(end, next_end)
    together = decoded[-1][2] - denoised[0][1]
    alone = sum(end - start for _, start, end, _ in painter.events)
    assert together < 0.8 * alone


def test_never_more_than_one_batch_waits(tmp_path: Path) -> None:
    class Counting(Painter):
        ahead = most = 0

        def denoise(self, prompts, seeds):
            Counting.ahead += 1
            Counting.most = max(Counting.most, Counting.ahead)
            return super().denoise(prompts, seeds)

        def decode(self, latents):
            time.sleep(0.05)
            Counting.ahead -= 1
            return super().decode(latents)

    generate(make_work(painter=Counting(), **BATCHES), tmp_path)
    assert Counting.most == 2


def test_the_result_is_that_of_one_step_after_the_other(tmp_path: Path) -> None:
    generate(make_work(painter=SlowPainter(0.02), **BATCHES), tmp_path / "overlapping")
    generate(make_work(**BATCHES | {"batch_size": 10}), tmp_path / "sequential")  # one batch: nothing overlaps
    assert folder_bytes(tmp_path / "overlapping") == folder_bytes(tmp_path / "sequential")


def test_a_failing_decoder_stops_the_run_at_the_next_batch(tmp_path: Path) -> None:
    class Broken(Painter):
        calls = 0

        def denoise(self, prompts, seeds):
            Broken.calls += 1
            return super().denoise(prompts, seeds)

        def decode(self, latents):
            raise RuntimeError("VAE broke")

    with pytest.raises(RuntimeError, match=r"captions \['cap_0_0', 'cap_1_0'\] .* VAE broke"):
        generate(make_work(painter=Broken(), **BATCHES), tmp_path)
    assert Broken.calls == 2 + 2  # the batch, the one that was denoised meanwhile, and each row alone
