"""An image is itself under every name it has."""

from dataclasses import replace

import pandas as pd
import pytest

from gmail_kedro.evaluation.leakage import count_leaked, image_names, leave_out_copies, refuse_leakage
from gmail_kedro.interfaces import Corpus


def _corpus(name, rows, *, with_files=True):
    captions = pd.DataFrame(rows, columns=["image_id", "filename", "split"], dtype="str")
    captions = captions if with_files else captions.drop(columns="filename")
    return Corpus(name=name, captions=captions, images=Images(name), labels={})


class Images:
    """An image of its own under every key, but for those that are given."""

    def __init__(self, name, shared=()):
        self.name, self.shared = name, shared

    def read(self, key):
        return b"the same" if key in self.shared else f"{self.name} {key}".encode()


COCO_2014 = _corpus(
    "coco",
    [
        ("391895", "val2014/COCO_val2014_000000391895.jpg", "train"),
        ("9", "train2014/COCO_train2014_000000000009.jpg", "train"),
        ("12", "val2014/COCO_val2014_000000000012.jpg", "test"),
    ],
)


def test_cocos_years_share_numbers():
    val2017 = _corpus("coco2017", [("391895", "000000391895.jpg", "test"), ("5", "000000000005.jpg", "test")])
    message = r"1 of the 2 training images of the corpus 'coco' are among the 2 .* 'coco2017' \(coco:000000391895\)"
    with pytest.raises(ValueError, match=message):
        refuse_leakage(COCO_2014, val2017)
    rows = [("12", "000000000012.jpg", "test"), ("9", "000000000009.jpg", "train")]
    refuse_leakage(COCO_2014, _corpus("coco2017", rows))


def test_long_captions_of_coco_are_found():
    shared = _corpus("sharegpt4v", [("coco/train2017/000000000009.jpg", "", "test")], with_files=False)
    with pytest.raises(ValueError, match="coco:000000000009"):
        refuse_leakage(COCO_2014, shared)


def test_flickr_8k_and_30k_share_numbers():
    small = _corpus("own", [("0", "1000268201_693b08cb0e.jpg", "train")])
    large = _corpus("flickr30k", [("1000268201.jpg", "", "test")], with_files=False)
    with pytest.raises(ValueError, match="flickr:1000268201"):
        refuse_leakage(small, large)
    refuse_leakage(small, _corpus("flickr30k", [("1000268202.jpg", "", "test")], with_files=False))


def test_a_corpus_is_checked_against_itself():
    rows = [("a", "a.jpg", "train"), ("b", "b.jpg", "val"), ("a", "a.jpg", "test")]
    corpus = _corpus("own", rows)
    with pytest.raises(ValueError, match="own:a"):
        refuse_leakage(corpus, corpus)
    clean = _corpus("own", rows[:2])
    refuse_leakage(clean, clean)


def test_equal_numbers_in_unrelated_corpora_are_different_images():
    first = _corpus("cc3m", [("00000/000000001", "", "train")], with_files=False)
    refuse_leakage(first, _corpus("cc12m", [("00000/000000001", "", "test")], with_files=False))
    refuse_leakage(_corpus("a", [("1", "123456.jpg", "train")]), _corpus("b", [("1", "123456.jpg", "test")]))


def test_names_are_once_an_image():
    corpus = _corpus("own", [("a", "a.jpg", "train"), ("a", "a.jpg", "train"), ("b", "b.jpg", "val")])
    assert image_names(corpus, ("train", "val")).to_pylist() == ["own:a", "own:b"]


def _with_copies(name, rows, shared):
    return replace(_corpus(name, rows, with_files=False), images=Images(name, shared))


def test_equal_bytes_are_one_image_within_a_corpus_and_between_two():
    rows = [("a", "", "train"), ("b", "", "train"), ("c", "", "val"), ("d", "", "train")]
    own, other = _with_copies("own", rows, "ac"), _with_copies("other", [("x", "", "test"), ("y", "", "val")], "x")
    for measured, twin in ((own, "c"), (other, "x")):
        message = (
            rf"1 of the 3 training images .* very bytes of val and test images .*\('a' is '{twin}'\).*Take them out"
        )
        with pytest.raises(ValueError, match=message):
            refuse_leakage(own, measured)
        assert count_leaked(own, measured) == 1
    refuse_leakage(other, own)
    assert count_leaked(other, own) == 0


def test_copies_are_left_out_up_to_the_limit_that_the_refusal_names():
    rows = [(key, "", "train") for key in "abcdefg"] + [("v", "", "val")]
    own = _with_copies("own", rows, "acv")
    with pytest.raises(ValueError, match=r"2 of the 7 .*quality.max_unreadable=0.286 \(now 0.1\)"):
        leave_out_copies(own, own, limit=0.1)
    reasons = leave_out_copies(own, own, limit=0.286)
    assert reasons == {key: f"the image {key!r} has the very bytes of 'v' in val of 'own'" for key in "ac"}


def test_an_image_counts_once_by_name_and_bytes():
    own = _with_copies("own", [("a", "", "train"), ("b", "", "train"), ("a", "", "test")], "ab")
    assert count_leaked(own, own) == 2
