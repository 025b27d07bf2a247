"""Looks at every picture before any work is spent on them."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from gmail_kedro.corpora.copies import copies_among, digest
from gmail_kedro.images.decoding import check_header, decode_image
from gmail_kedro.interfaces import Corpus

logger = logging.getLogger(__name__)
SHOWN_COUNT = 5


@dataclass(frozen=True)
class Looked:
    """What was seen of pictures.

    Attributes:
        reasons: Why each that is missing or unusable is so, by image id.
        copies: Which usable ones have the bytes of one before them, and of which, by image id.
    """

    reasons: Mapping[str, str]
    copies: Mapping[str, str]


def look_at_images(corpus: Corpus, image_ids: Iterable[str], *, decode: bool = True) -> Looked:
    """Returns which pictures are missing or unusable, and which are copies of others.

    Args:
        corpus: The corpus they belong to.
        image_ids: The pictures to look at; each is looked at once.
        decode: Decode every pixel, which alone finds cut-off and corrupt files. False reads the headers only.
    """
    look = decode_image if decode else check_header
    wanted = list(dict.fromkeys(image_ids))
    digests = np.zeros(len(wanted), np.uint64)
    reasons: dict[str, str] = {}
    usable: list[str] = []
    for image_id in tqdm(wanted, desc=f"checking the pictures of {corpus.name}", disable=None, leave=False):
        try:
            content = corpus.images.read(image_id)
            look(content, name=image_id)
        except (OSError, ValueError) as error:
            reasons[image_id] = str(error)
            continue
        digests[len(usable)] = digest(content)
        usable.append(image_id)
    return Looked(reasons, copies_among(usable, digests[: len(usable)]))


def refuse_absent(corpus: Corpus, *, limit: float) -> None:
    """Refuses a corpus whose pictures are not there, counted over all its splits; opens none.

    Pictures in tars are always there.

    Args:
        corpus: The corpus.
        limit: Largest share of the training pictures that may be absent, in [0, 1]; of val and test none may.

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
        f"{len(absent)} of the {len(splits)} pictures of the corpus {corpus.name!r} are not there. Put them there, "
        f"correct its images folder, or leave them out by count: skip_missing: true in its catalog entry:{shown}"
    )


def check_images(corpus: Corpus, image_ids: Iterable[str], *, decode: bool = True) -> Mapping[str, str]:
    """Checks that all the pictures exist and can be used; returns which are copies of others, as ``Looked`` does.

    Args:
        corpus: The corpus they belong to.
        image_ids: The pictures to look at; each is looked at once.
        decode: As for ``look_at_images``.

    Raises:
        ValueError: If any picture is missing or unusable: one message with the count and the first five reasons.
    """
    wanted = list(dict.fromkeys(image_ids))
    looked = look_at_images(corpus, wanted, decode=decode)
    if looked.reasons:
        raise ValueError(
            f"{len(looked.reasons)} of the {len(wanted)} pictures needed from the corpus {corpus.name!r} cannot be "
            f"used. Mend them, or take their entries out of the annotations:{_show(looked.reasons.values())}"
        )
    return looked.copies


def check_unreadable(corpus: Corpus, reasons: Mapping[str, str], *, of: int, limit: float) -> None:
    """Refuses a corpus of whose training photographs too many are unreadable, and logs them if they are few.

    Args:
        corpus: The corpus.
        reasons: Why each cannot be used, by image id.
        of: How many were looked at.
        limit: Largest share of them that may be unreadable, in [0, 1].

    Raises:
        ValueError: If there are more; the message names the first five.
    """
    if not reasons:
        return
    found = f"{len(reasons)} of the {of} training photographs of the corpus {corpus.name!r} cannot be used"
    if len(reasons) > limit * of:
        raise ValueError(
            f"{found} ({len(reasons) / of:.2%}); quality.max_unreadable allows {limit:.2%}. Mend them, take their "
            f"entries out of the annotations, or raise the limit:{_show(reasons.values())}"
        )
    logger.warning("%s; they are left out with their captions:%s", found, _show(reasons.values()))


def _show(reasons: Collection[str]) -> str:
    shown = "".join(f"\n- {reason}" for reason in list(reasons)[:SHOWN_COUNT])
    return shown if len(reasons) <= SHOWN_COUNT else f"{shown}\n- and {len(reasons) - SHOWN_COUNT} more"
