"""Looks at every picture before any work is spent on them."""

import logging
from collections.abc import Collection, Iterable, Mapping

from tqdm import tqdm

from gmail_kedro.decoding import check_header, decode_image
from gmail_kedro.interfaces import Corpus

logger = logging.getLogger(__name__)
SHOWN_COUNT = 5


def find_unreadable(corpus: Corpus, image_ids: Iterable[str], *, decode: bool = True) -> dict[str, str]:
    """Returns why pictures are missing or unusable, by image id; nothing of those that are fine.

    Args:
        corpus: The corpus they belong to.
        image_ids: The pictures to look at; each is looked at once.
        decode: Decode every pixel, which alone finds cut-off and corrupt files. False reads the headers only.
    """
    look = decode_image if decode else check_header
    reasons = {}
    for image_id in tqdm(
        list(dict.fromkeys(image_ids)), desc=f"checking the pictures of {corpus.name}", disable=None, leave=False
    ):
        try:
            look(corpus.images.read(image_id), name=image_id)
        except (OSError, ValueError) as error:
            reasons[image_id] = str(error)
    return reasons


def check_images(corpus: Corpus, image_ids: Iterable[str], *, decode: bool = True) -> None:
    """Checks that all the pictures exist and can be used.

    Args:
        corpus: The corpus they belong to.
        image_ids: The pictures to look at; each is looked at once.
        decode: As for ``find_unreadable``.

    Raises:
        ValueError: If any picture is missing or unusable: one message with the count and the first five reasons.
    """
    wanted = list(dict.fromkeys(image_ids))
    reasons = find_unreadable(corpus, wanted, decode=decode)
    if reasons:
        raise ValueError(
            f"{len(reasons)} of the {len(wanted)} pictures needed from the corpus {corpus.name!r} cannot be used. "
            f"Mend them, or take their entries out of the annotations:{_show(reasons.values())}"
        )


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
