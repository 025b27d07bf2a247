"""A picture is itself under every name it has."""

import pandas as pd
import pytest

from gmail_kedro.corpora.leakage import picture_names, refuse_leakage
from gmail_kedro.interfaces import Corpus


def _corpus(name, rows, *, with_files=True):
    captions = pd.DataFrame(rows, columns=["image_id", "filename", "split"], dtype="str")
    captions = captions if with_files else captions.drop(columns="filename")
    return Corpus(name=name, captions=captions, images=None, labels={})


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
    message = r"1 of the 2 training pictures of the corpus 'coco' are among the 2 .* 'coco2017' \(coco:000000391895\)"
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


def test_equal_numbers_in_unrelated_corpora_are_different_pictures():
    first = _corpus("cc3m", [("00000/000000001", "", "train")], with_files=False)
    refuse_leakage(first, _corpus("cc12m", [("00000/000000001", "", "test")], with_files=False))
    refuse_leakage(_corpus("a", [("1", "123456.jpg", "train")]), _corpus("b", [("1", "123456.jpg", "test")]))


def test_names_are_once_a_picture():
    corpus = _corpus("own", [("a", "a.jpg", "train"), ("a", "a.jpg", "train"), ("b", "b.jpg", "val")])
    assert picture_names(corpus, ("train", "val")).to_pylist() == ["own:a", "own:b"]
