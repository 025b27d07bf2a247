"""A split that cannot be measured on is refused."""

import pandas as pd
import pytest

from gmail_kedro.evaluation.splits import split_rows
from gmail_kedro.interfaces import Corpus


@pytest.mark.parametrize(("split", "count"), [("val", 1), ("test", 0)])
def test_fewer_than_two_images_are_refused_with_the_counts(split: str, count: int) -> None:
    captions = pd.DataFrame({"image_id": [*"aabbvv"], "split": ["train"] * 4 + ["val"] * 2})
    corpus = Corpus(name="own", captions=captions, images=None, labels={})
    message = rf"split '{split}' of the corpus 'own' has {count} images.*\{{'train': 2, 'val': 1\}}.*evaluation.split"
    with pytest.raises(ValueError, match=message):
        split_rows(corpus, split, image_count=None)
    assert len(split_rows(corpus, "train", image_count=1)) == 2
