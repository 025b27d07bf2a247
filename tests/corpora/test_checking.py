"""One look finds every unusable picture before any work is done."""

import re

import pandas as pd
import pytest

from gmail_kedro.corpora.checking import check_images
from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.interfaces import Corpus


@pytest.fixture
def corpus(tmp_path, encode, photograph) -> Corpus:
    whole = encode(photograph)
    contents = {"whole": whole, "cut": whole[:-60], "html": b"<html>404</html>", "empty": b""}
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    names = [*contents, *(f"gone{index}" for index in range(4))]
    pictures = FolderImages({name: tmp_path / f"{name}.jpg" for name in names})
    return Corpus(name="own", captions=pd.DataFrame(), images=pictures, labels={})


def test_good_pictures_pass(corpus):
    assert check_images(corpus, ["whole", "whole"]) is None
    assert check_images(corpus, []) is None


def test_all_bad_ones_are_counted_and_five_are_shown(corpus):
    with pytest.raises(ValueError, match="7 of the 8 pictures needed from the corpus 'own' cannot be used") as caught:
        check_images(corpus, list(corpus.images.paths))
    lines = str(caught.value).splitlines()
    assert [re.search("'(.+?)'", line).group(1) for line in lines[1:6]] == ["cut", "html", "empty", "gone0", "gone1"]
    assert lines[6:] == ["- and 2 more"]
    assert "cut off or corrupt" in lines[1]
    assert "HTML" in lines[2]


def test_a_picture_is_counted_once(corpus):
    with pytest.raises(ValueError, match="1 of the 2 pictures"):
        check_images(corpus, ["html", "whole", "html", "whole"])


def test_a_picture_of_another_corpus_is_bad(corpus):
    with pytest.raises(ValueError, match="no picture 'other' among 8"):
        check_images(corpus, ["other"])


def test_without_decoding_only_headers_are_read(corpus):
    check_images(corpus, ["whole", "cut"], decode=False)
    with pytest.raises(ValueError, match="2 of the 3 pictures"):
        check_images(corpus, ["whole", "html", "gone0"], decode=False)
