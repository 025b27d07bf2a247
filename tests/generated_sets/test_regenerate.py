import io

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.generated_sets.regenerate import changed_files, compare_images


def encode(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


GREY = np.full((8, 8, 3), 100)


def test_equal_bytes_are_identical():
    found = compare_images(encode(GREY), encode(GREY))
    assert (found.verdict, found.max_difference, found.mean_difference) == ("identical", 0, 0.0)


def test_a_few_grey_levels_are_close():
    other = GREY.copy()
    other[0, 0] = 112
    found = compare_images(encode(GREY), encode(other))
    assert found.verdict == "close" and found.max_difference == 12
    assert found.mean_difference == pytest.approx(12 / 64)


def test_another_image_is_different():
    found = compare_images(encode(GREY), encode(GREY + 50))
    assert (found.verdict, found.max_difference, found.mean_difference) == ("different", 50, 50.0)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="the one made again"):
        compare_images(encode(GREY), encode(GREY[:4]))


def test_changed_files_are_named_with_what_became_of_them():
    lines = changed_files({"a": "1" * 64, "b": "2", "c": "3"}, {"a": "9" * 64, "c": "3", "d": "4"})
    assert lines == ["b is gone", "d is new", f"a differs: {'1' * 12}… then, {'9' * 12}… now"]
