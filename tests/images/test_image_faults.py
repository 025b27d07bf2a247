"""One look finds every unusable image before any work is done."""

import re

import pandas as pd
import pytest

from gmail_kedro.images.image_faults import check_images, refuse_absent
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.interfaces import Corpus


@pytest.fixture
def corpus(tmp_path, encode, real_image) -> Corpus:
    whole = encode(real_image)
    contents = {"whole": whole, "cut": whole[:-60], "html": b"<html>404</html>", "empty": b""}
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    names = [*contents, *(f"gone{index}" for index in range(4))]
    images = ImageFiles(tmp_path, {name: f"{name}.jpg" for name in names})
    return Corpus(name="own", captions=pd.DataFrame(), images=images, labels={})


def test_good_images_pass(corpus):
    assert check_images(corpus, ["whole", "whole"]) == check_images(corpus, []) == {}


def test_all_bad_ones_are_counted_and_five_are_shown(corpus):
    with pytest.raises(ValueError, match="7 of the 8 images needed from the corpus 'own' cannot be used") as caught:
        check_images(corpus, list(corpus.images.filenames))
    lines = str(caught.value).splitlines()
    assert [re.search("'(.+?)'", line).group(1) for line in lines[1:6]] == ["cut", "html", "empty", "gone0", "gone1"]
    assert lines[6:] == ["- and 2 more"]
    assert "cut off or corrupt" in lines[1]
    assert "HTML" in lines[2]


def test_an_image_is_counted_once(corpus):
    with pytest.raises(ValueError, match="1 of the 2 images"):
        check_images(corpus, ["html", "whole", "html", "whole"])


def test_an_image_of_another_corpus_is_bad(corpus):
    with pytest.raises(ValueError, match="no image 'other' among 8"):
        check_images(corpus, ["other"])


def test_absent_images_are_counted_over_all_splits(tmp_path):
    """Ten images of two captions each; one of train, one of val and one of test are not there."""
    names = [f"{number}.jpg" for number in range(10)]
    splits = dict(zip(names, ["train"] * 6 + ["val"] * 2 + ["test"] * 2, strict=True))
    for name in set(names) - {"3.jpg", "6.jpg", "9.jpg"}:
        (tmp_path / name).write_bytes(b"x")
    rows = pd.DataFrame({"image_id": [name for name in names for _ in range(2)]})
    rows["split"] = rows["image_id"].map(splits)
    told = (
        r"3 of the 10 images of the corpus 'own' are not there.*skip_missing: true.*\n- '3.jpg': '.*3.jpg'\n- '6.jpg'"
    )
    for images in (ImageFiles(tmp_path), ImageFiles(tmp_path, {name: name for name in names})):
        with pytest.raises(ValueError, match=told):
            refuse_absent(Corpus(name="own", captions=rows, images=images, labels={}), limit=1.0)
        trained = Corpus(name="own", captions=rows[rows["split"] == "train"], images=images, labels={})
        refuse_absent(trained, limit=0.17)
        with pytest.raises(ValueError, match="1 of the 6 images of the corpus 'own' are not there"):
            refuse_absent(trained, limit=0.16)
