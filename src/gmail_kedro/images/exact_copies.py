"""Images with the very bytes of another: one image, whatever a corpus calls it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gmail_kedro.interfaces import Corpus, ImageSource


def copies_among(image_ids: Sequence[str], digests: np.ndarray) -> dict[str, str]:
    """Returns which images have the bytes of one before them, and of which.

    Args:
        image_ids: N images.
        digests: The ``short_digest`` of each, uint64 [N].
    """
    order = np.argsort(digests, kind="stable")  # stable: of several copies the first image comes first
    is_copy = np.zeros(len(order), dtype=bool)
    is_copy[1:] = digests[order][1:] == digests[order][:-1]
    first = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(order))))
    return {image_ids[order[place]]: image_ids[order[first[place]]] for place in np.flatnonzero(is_copy)}


def short_digest(content: bytes) -> int:
    """Returns the first 64 bits of the SHA-256 of an encoded image."""
    # 8 bytes an image: among all pairs of 12 million images 4 in a million are taken for copies wrongly.
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def copies_between(
    trained: Corpus, trained_ids: Iterable[str], measured: Corpus, measured_ids: Iterable[str]
) -> dict[str, str]:
    """Returns which images of one corpus are in another, under whatever name, and as which.

    Every training image, of millions, is asked for its size only; those as large as a measured one, about one in
    fifteen beside 10,000, are read and hashed. Only what is measured is kept in memory.
    """
    by_size: dict[int, list[str]] = {}
    for image_id, size in _sizes(measured.images, measured_ids):
        by_size.setdefault(size, []).append(image_id)
    hashed: dict[int, dict[bytes, str]] = {}  # the measured ones of a size, once one that is trained on has it
    found = {}
    for image_id, size in _sizes(trained.images, trained_ids):
        if size in by_size:
            if size not in hashed:
                # Reversed, so that the first of several measured copies is the one that is named.
                hashed[size] = {_sha256(measured.images.read(key)): key for key in reversed(by_size[size])}
            twin = hashed[size].get(_sha256(trained.images.read(image_id)))
            if twin is not None:
                found[image_id] = twin
    return found


def _sizes(images: ImageSource, image_ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    size = getattr(images, "size", None)
    for image_id in image_ids:
        try:
            yield image_id, len(images.read(image_id)) if size is None else size(image_id)
        except (OSError, ValueError):  # what is not there is no copy; image_faults tells of it
            continue


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
