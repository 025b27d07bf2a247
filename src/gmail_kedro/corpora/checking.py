"""Looks at every picture before any work is spent on them."""

from collections.abc import Iterable

from tqdm import tqdm

from gmail_kedro.decoding import check_header, decode_image
from gmail_kedro.interfaces import Corpus

SHOWN_COUNT = 5


def check_images(corpus: Corpus, image_ids: Iterable[str], *, decode: bool = True) -> None:
    """Checks that all the pictures exist and can be used.

    Args:
        corpus: The corpus they belong to.
        image_ids: The pictures to look at; each is looked at once.
        decode: Decode every pixel, which alone finds cut-off and corrupt files. False reads the headers only.

    Raises:
        ValueError: If any picture is missing or unusable: one message with the count and the first five reasons.
    """
    look = decode_image if decode else check_header
    wanted = list(dict.fromkeys(image_ids))
    reasons = []
    for image_id in tqdm(wanted, desc=f"checking the pictures of {corpus.name}", disable=None, leave=False):
        try:
            look(corpus.images.read(image_id), name=image_id)
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    if not reasons:
        return
    shown = "".join(f"\n- {reason}" for reason in reasons[:SHOWN_COUNT])
    more = "" if len(reasons) <= SHOWN_COUNT else f"\n- and {len(reasons) - SHOWN_COUNT} more"
    raise ValueError(
        f"{len(reasons)} of the {len(wanted)} pictures needed from the corpus {corpus.name!r} cannot be used. "
        f"Mend them, or take their entries out of the annotations:{shown}{more}"
    )
