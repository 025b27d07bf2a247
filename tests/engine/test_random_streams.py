"""Streams: apart from one another, the same at the same place, and of the numbers that results were made with."""

import numpy as np

from gmail_kedro.engine.random_streams import Stream, stream_rng


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
