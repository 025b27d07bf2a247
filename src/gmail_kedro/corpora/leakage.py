"""Refuses to train on pictures that a benchmark is measured on, whatever each corpus calls them."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.protocols import EVALUATION_SPLITS
from gmail_kedro.interfaces import Corpus

# Names that mean the same picture in every corpus: COCO's number of 2014 and 2017, and Flickr's of 8k and 30k.
_SUFFIX = r"\.(?:jpg|jpeg|png|webp)$"
_COCO = rf"^(?:.*/)?(?:COCO_(?:train|val|test)20\d\d_)?(\d{{12}}){_SUFFIX}"
_FLICKR_8K = rf"^(?:.*/)?([1-9]\d{{4,10}})_[0-9a-f]{{10}}{_SUFFIX}"
_FLICKR_30K = rf"^(?:.*/)?([1-9]\d{{4,10}}){_SUFFIX}"
SHOWN_COUNT = 5


def refuse_leakage(corpus: Corpus, benchmark: Corpus) -> None:
    """Refuses a training corpus with a picture of a benchmark's val or test split.

    Pictures are the same if COCO or Flickr numbered them so (``COCO_val2014_000000391895.jpg`` of 2014 is
    ``000000391895.jpg`` of 2017), or if two corpora of one name call them by one image id.

    Args:
        corpus: Its ``train`` split is trained on.
        benchmark: Its ``val`` and ``test`` splits are measured on. It may be the same corpus.

    Raises:
        ValueError: If a picture is in both; the message counts them and shows the first.
    """
    trained = picture_names(corpus, ("train",))
    measured = picture_names(benchmark, EVALUATION_SPLITS)
    leaked = _both(trained, measured)
    if len(leaked):
        shown = ", ".join(leaked[:SHOWN_COUNT].to_pylist()) + (", ..." if len(leaked) > SHOWN_COUNT else "")
        raise ValueError(
            f"{len(leaked)} of the {len(trained)} training pictures of the corpus {corpus.name!r} are among the "
            f"{len(measured)} val and test pictures of {benchmark.name!r} ({shown}). Scores on them would measure "
            "memory. Choose protocols that share no picture, such as coco_train2014 with coco_val2017, or "
            "coco_karpathy with its own test split."
        )


def count_leaked(corpus: Corpus, benchmark: Corpus) -> int:
    """Returns how many training pictures of a corpus are among a benchmark's val and test pictures.

    Args:
        corpus: Its ``train`` split is trained on.
        benchmark: Its ``val`` and ``test`` splits are measured on.
    """
    return len(_both(picture_names(corpus, ("train",)), picture_names(benchmark, EVALUATION_SPLITS)))


def _both(trained: pa.Array, measured: pa.Array) -> pa.Array:
    return trained.filter(pc.is_in(trained, value_set=measured))


def picture_names(corpus: Corpus, splits: tuple[str, ...]) -> pa.Array:
    """Returns a name for each picture of some splits that is the same in every corpus that has the picture.

    Args:
        corpus: The corpus.
        splits: The splits.
    """
    rows = corpus.captions[corpus.captions["split"].isin(splits)]
    images = rows.drop_duplicates("image_id")
    files = _column(images["filename"] if "filename" in images else images["image_id"])
    own = pc.binary_join_element_wise(_text(f"{corpus.name}:"), _column(images["image_id"]), _text(""))
    patterns = [("coco", _COCO), ("flickr", _FLICKR_8K)]
    if corpus.name.startswith("flickr"):
        patterns.append(("flickr", _FLICKR_30K))
    for home, pattern in patterns:
        matches = pc.match_substring_regex(files, pattern)
        shared = pc.replace_substring_regex(files, pattern=pattern, replacement=rf"{home}:\1")
        own = pc.if_else(matches, shared, own)
    return own


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _column(values: "pd.Series[str]") -> pa.Array:
    return pa.array(values, pa.large_string())
