"""Photographs with the very bytes of another: one photograph, whatever a corpus calls it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gmail_kedro.interfaces import Corpus, ImageSource


def copies_among(image_ids: Sequence[str], digests: np.ndarray) -> dict[str, str]:
    """Returns which photographs have the bytes of one before them, and of which.

    Args:
        image_ids: N photographs.
        digests: What ``digest`` returns of each, uint64 [N]: 8 bytes a photograph; of all pairs of 12 million, 4 in a
            million are taken for copies wrongly.
    """
    order = np.argsort(digests, kind="stable")
    is_copy = np.zeros(len(order), dtype=bool)
    is_copy[1:] = digests[order][1:] == digests[order][:-1]
    first = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(order))))
    return {image_ids[order[place]]: image_ids[order[first[place]]] for place in np.flatnonzero(is_copy)}


def digest(content: bytes) -> int:
    """Returns the first 64 bits of the SHA-256 of an encoded photograph."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def copies_between(
    trained: Corpus, trained_ids: Iterable[str], measured: Corpus, measured_ids: Iterable[str]
) -> dict[str, str]:
    """Returns which photographs of one corpus are in another, under whatever name, and as which.

    Sizes are compared first: of 12 million photographs each is asked for its size (in tars that is known), and those
    that are as large as one that is measured are read and hashed, about one in fifteen beside 10,000; nothing but
    what is measured is kept in memory. A photograph that is not there is no copy; looking at it will tell.

    Args:
        trained: Home of the photographs that are trained on.
        trained_ids: Their ids.
        measured: Home of the photographs that are measured on.
        measured_ids: Their ids.
    """
    by_size: dict[int, list[str]] = {}
    for image_id, size in _sizes(measured.images, measured_ids):
        by_size.setdefault(size, []).append(image_id)
    hashed: dict[int, dict[str, str]] = {}  # the measured ones of a size, once one that is trained on has it
    found = {}
    for image_id, size in _sizes(trained.images, trained_ids):
        if size in by_size:
            if size not in hashed:
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
        except (OSError, ValueError):
            continue


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
