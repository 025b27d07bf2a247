"""Copies are found by their bytes, and few images are read for it."""

import io
import tarfile

import numpy as np
import pandas as pd

from gmail_kedro.corpora.webdataset import read_webdataset
from gmail_kedro.images.exact_copies import copies_among, copies_between
from gmail_kedro.images.image_faults import find_faults
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.interfaces import Corpus


class Counting:
    """Images that know which were read."""

    def __init__(self, contents):
        self.contents, self.was_read = contents, []

    def read(self, key):
        self.was_read.append(key)
        return self.contents[key]

    def size(self, key):
        if key not in self.contents:
            raise FileNotFoundError(key)
        return len(self.contents[key])


def _corpus(images):
    return Corpus(name="own", captions=pd.DataFrame(), images=images, labels={})


def test_only_images_of_a_measured_size_are_read():
    trained = Counting({"a": b"1234", "b": b"12", "c": b"4321", "d": b"123456"})
    measured = Counting({"x": b"1234", "y": b"123", "z": b"999"})
    found = copies_between(_corpus(trained), [*"abcd", "gone"], _corpus(measured), [*"xyz", "gone"])
    assert found == {"a": "x"}
    assert (trained.was_read, measured.was_read) == (["a", "c"], ["x"])


def test_the_first_of_several_copies_is_named():
    digests = np.array([5, 9, 5, 7, 9, 5], np.uint64)
    assert copies_among([*"abcdef"], digests) == {"c": "a", "f": "a", "e": "b"}
    assert copies_among([], np.zeros(0, np.uint64)) == {}


def test_files_and_tars_know_their_sizes(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"12345")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in (("k.jpg", b"1234567"), ("k.txt", b"a dog")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert ImageFiles(tmp_path).size("a.jpg") == ImageFiles(tmp_path, {"a": "a.jpg"}).size("a") == 5
    images = read_webdataset(str(tmp_path / "*.tar"), name="own").images
    assert images.size("0/k") == len(images.read("0/k")) == 7


def test_looking_at_images_tells_the_copies_among_those_that_can_be_used(encode, real_image):
    whole, other = encode(real_image), encode(real_image.rotate(90))
    images = Counting({"a": whole, "bad": b"x", "b": other, "c": whole, "bad_too": b"x", "d": other})
    faults = find_faults(_corpus(images), images.contents)
    assert faults.copies == {"c": "a", "d": "b"} and set(faults.unusable) == {"bad", "bad_too"}
