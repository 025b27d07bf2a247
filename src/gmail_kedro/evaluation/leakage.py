"""Refuses to train on images that a benchmark is measured on, whatever each corpus calls them.

COCO's divisions of 2014 and 2017 hold the same images under other names, and Flickr8k's are among Flickr30k's: so names
are compared where a collection numbers its images, and bytes where it does not.
"""

import math

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.images.exact_copies import copies_between
from gmail_kedro.interfaces import EVALUATION_SPLITS, Corpus

# Names that mean the same image in every corpus: COCO's number of 2014 and 2017, and Flickr's of 8k and 30k.
_SUFFIX = r"\.(?:jpg|jpeg|png|webp)$"
_COCO = rf"^(?:.*/)?(?:COCO_(?:train|val|test)20\d\d_)?(\d{{12}}){_SUFFIX}"
_FLICKR_8K = rf"^(?:.*/)?([1-9]\d{{4,10}})_[0-9a-f]{{10}}{_SUFFIX}"
_FLICKR_30K = rf"^(?:.*/)?([1-9]\d{{4,10}}){_SUFFIX}"  # a bare number: Flickr's only where the corpus is called so
SHOWN_COUNT = 5


def refuse_leakage(corpus: Corpus, benchmark: Corpus) -> None:
    """Refuses a training corpus with an image of a benchmark's val or test split.

    Images are the same if COCO or Flickr numbered them so (``COCO_val2014_000000391895.jpg`` of 2014 is
    ``000000391895.jpg`` of 2017), if two corpora of one name call them by one image id, or if they have the same
    bytes; see ``copies_between`` for what that costs.

    Args:
        corpus: Its ``train`` split is trained on.
        benchmark: Its ``val`` and ``test`` splits are measured on. It may be the same corpus.

    Raises:
        ValueError: If an image is in both; the message counts them and shows the first.
    """
    leave_out_copies(corpus, benchmark, limit=None)


def leave_out_copies(corpus: Corpus, benchmark: Corpus, *, limit: float | None) -> dict[str, str]:
    """Returns why training images must not be trained on, by image id: those with the bytes of a measured one.

    The arguments are those of ``refuse_leakage``, and the largest share of the training images that may be left out;
    None if none can be.

    Raises:
        ValueError: If there are more, or an image is in both by its name; the message counts them and shows the first.
    """
    trained, measured = _images(corpus, ("train",)), _images(benchmark, EVALUATION_SPLITS)
    names = _names(corpus, trained)
    leaked = names.filter(pc.is_in(names, value_set=_names(benchmark, measured)))
    if len(leaked):
        raise ValueError(
            f"{len(leaked)} of the {len(trained)} training images of the corpus {corpus.name!r} are among the "
            f"{len(measured)} val and test images of {benchmark.name!r} ({_show(leaked.to_pylist())}). Scores on "
            "them would measure memory. Choose protocols that share no image, such as coco_train2014 with "
            "coco_val2017, or coco_karpathy with its own test split."
        )
    # An image by its name is a wrong choice of protocols, and refused; a copy is an accident, and may be left out.
    copies = copies_between(corpus, trained["image_id"], benchmark, measured["image_id"])
    if len(copies) > (limit or 0.0) * len(trained):
        shown = _show([f"{ours!r} is {theirs!r}" for ours, theirs in copies.items()])
        raise ValueError(
            f"{len(copies)} of the {len(trained)} training images of the corpus {corpus.name!r} have the very bytes "
            f"of val and test images of {benchmark.name!r} ({shown}). Scores on them would measure memory. Take "
            f"them out of the annotations{_or_leave_out(len(copies) / len(trained), limit)}."
        )
    split_of = dict(zip(measured["image_id"], measured["split"], strict=True)) if copies else {}
    return {
        image_id: f"the image {image_id!r} has the very bytes of {twin!r} in {split_of[twin]} of {benchmark.name!r}"
        for image_id, twin in copies.items()
    }


def count_leaked(corpus: Corpus, benchmark: Corpus) -> int:
    """Returns how many training images of a corpus are among a benchmark's val and test images.

    The arguments are those of ``refuse_leakage``.
    """
    trained, measured = _images(corpus, ("train",)), _images(benchmark, EVALUATION_SPLITS)
    by_name = pc.is_in(_names(corpus, trained), value_set=_names(benchmark, measured))
    copies = copies_between(corpus, trained["image_id"], benchmark, measured["image_id"])
    return int((by_name.to_numpy(zero_copy_only=False) | trained["image_id"].isin(copies.keys()).to_numpy()).sum())


def _show(found: list[str]) -> str:
    return ", ".join(found[:SHOWN_COUNT]) + (", ..." if len(found) > SHOWN_COUNT else "")


def _or_leave_out(share: float, limit: float | None) -> str:
    if limit is None:
        return ""
    enough = math.ceil(share * 1000) / 1000
    return f", or leave them out with their captions: quality.max_unreadable={enough} (now {limit})"


def _images(corpus: Corpus, splits: tuple[str, ...]) -> pd.DataFrame:
    """Returns the first row of each image of some splits."""
    return corpus.captions[corpus.captions["split"].isin(splits)].drop_duplicates("image_id")


def image_names(corpus: Corpus, splits: tuple[str, ...]) -> pa.Array:
    """Returns a name for each image of some splits that is the same in every corpus that has the image."""
    return _names(corpus, _images(corpus, splits))


def _names(corpus: Corpus, images: pd.DataFrame) -> pa.Array:
    files = _column(images["filename"] if "filename" in images else images["image_id"])
    own = pc.binary_join_element_wise(_text(f"{corpus.name}:"), _column(images["image_id"]), _text(""))
    patterns = [("coco", _COCO), ("flickr", _FLICKR_8K)]
    if corpus.name.startswith("flickr"):
        patterns.append(("flickr", _FLICKR_30K))
    # Where the name is none of a collection's, the corpus's own id stands for it: it is shared by a corpus of one name.
    for home, pattern in patterns:
        matches = pc.match_substring_regex(files, pattern)
        shared = pc.replace_substring_regex(files, pattern=pattern, replacement=rf"{home}:\1")
        own = pc.if_else(matches, shared, own)
    return own


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _column(values: "pd.Series[str]") -> pa.Array:
    return pa.array(values, pa.large_string())
