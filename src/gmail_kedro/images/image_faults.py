"""Finds the images of a corpus that cannot be used before any work is spent on them.

A broken file among a million would otherwise end a generation of days at its place.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.images.exact_copies import copies_among, short_digest
from gmail_kedro.interfaces import Corpus

logger = logging.getLogger(__name__)
SHOWN_COUNT = 5


@dataclass(frozen=True)
class ImageFaults:
    """Which of some images should not be taken as they are, by image id."""

    unusable: Mapping[str, str]  # why each that is missing, broken or refused is so
    copies: Mapping[str, str]  # which usable ones have the bytes of one before them, and of which


def find_faults(corpus: Corpus, image_ids: Iterable[str]) -> ImageFaults:
    """Decodes every pixel of some images, each once, and returns what is wrong with them."""
    wanted = list(dict.fromkeys(image_ids))
    digests = np.zeros(len(wanted), np.uint64)
    unusable: dict[str, str] = {}
    usable: list[str] = []
    for image_id in tqdm(wanted, desc=f"checking the images of {corpus.name}", disable=None, leave=False):
        try:
            content = corpus.images.read(image_id)
            decode_image(content, name=image_id)  # the header of a file that is cut off is whole
        except (OSError, ValueError) as error:
            unusable[image_id] = str(error)
            continue
        digests[len(usable)] = short_digest(content)
        usable.append(image_id)
    return ImageFaults(unusable, copies_among(usable, digests[: len(usable)]))


def check_images(corpus: Corpus, image_ids: Iterable[str]) -> Mapping[str, str]:
    """Checks that all of some images can be used; returns which are copies, as ``ImageFaults`` has them.

    Raises:
        ValueError: If any is missing or unusable: one message with the count and the first five reasons.
    """
    wanted = list(dict.fromkeys(image_ids))
    faults = find_faults(corpus, wanted)
    if faults.unusable:
        raise ValueError(
            f"{len(faults.unusable)} of the {len(wanted)} images needed from the corpus {corpus.name!r} cannot be "
            f"used. Mend them, or take their entries out of the annotations:{_show(faults.unusable.values())}"
        )
    return faults.copies


def refuse_absent(corpus: Corpus, *, limit: float) -> None:
    """Refuses a corpus whose images are not there, counted over all its splits; opens none.

    Args:
        corpus: The corpus; images in tars are always there.
        limit: Largest share of the training images that may be absent, in [0, 1]; of val and test none may.

    Raises:
        ValueError: If there are more; the message counts them, names the first five, and what leaves them out.
    """
    images: Any = corpus.images
    if not hasattr(images, "missing"):
        return
    splits = corpus.captions.drop_duplicates("image_id").set_index("image_id")["split"]
    absent = splits[images.missing(splits.index)]
    is_trained = absent == "train"
    if is_trained.all() and len(absent) <= limit * (splits == "train").sum():
        return
    shown = _show([f"{image_id!r}: '{images.path(image_id)}'" for image_id in absent.index])
    raise ValueError(
        f"{len(absent)} of the {len(splits)} images of the corpus {corpus.name!r} are not there. Put them there, "
        f"correct its images folder, or leave them out by count: skip_missing: true in its catalog entry:{shown}"
    )


def refuse_unusable(corpus: Corpus, unusable: Mapping[str, str], *, total: int, limit: float) -> None:
    """Refuses a corpus of whose training images too many are unusable, and logs them if they are few.

    Args:
        corpus: The corpus.
        unusable: Why each cannot be used, by image id.
        total: How many training images there are.
        limit: Largest share of them that may be unusable, in [0, 1].

    Raises:
        ValueError: If there are more; the message names the first five.
    """
    if not unusable:
        return
    found = f"{len(unusable)} of the {total} training images of the corpus {corpus.name!r} cannot be used"
    if len(unusable) > limit * total:
        raise ValueError(
            f"{found} ({len(unusable) / total:.2%}); quality.max_unreadable allows {limit:.2%}. Mend them, take their "
            f"entries out of the annotations, or raise the limit:{_show(unusable.values())}"
        )
    logger.warning("%s; they are left out with their captions:%s", found, _show(unusable.values()))


def _show(reasons: Collection[str]) -> str:
    shown = "".join(f"\n- {reason}" for reason in list(reasons)[:SHOWN_COUNT])
    return shown if len(reasons) <= SHOWN_COUNT else f"{shown}\n- and {len(reasons) - SHOWN_COUNT} more"
