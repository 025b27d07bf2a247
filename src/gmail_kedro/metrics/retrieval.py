"""Image-to-text and text-to-image recall at k, with any number of captions for each photograph.

An image query is a hit if at least one of its captions is among the k best texts; a text query is a hit if
its photograph is among the k best images. Equal cosines rank by index, the lower first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gmail_kedro.metrics.cosine import check_rows, grid_rows


@dataclass(frozen=True)
class RetrievalResult:
    """Which queries found what they were looking for.

    Attributes:
        i2t_hits: For each k, bool of shape [N_i]: the photograph has a caption in the top k.
        t2i_hits: For each k, bool of shape [N_t]: the caption's photograph is in the top k.
    """

    i2t_hits: dict[int, np.ndarray]
    t2i_hits: dict[int, np.ndarray]

    def scores(self) -> dict[str, float]:
        """Returns recall at k in percent: ``i2t_r1``, …, ``t2i_r10``."""
        directions = {"i2t": self.i2t_hits, "t2i": self.t2i_hits}
        return {
            f"{direction}_r{k}": 100.0 * float(hits.mean())
            for direction, by_k in directions.items()
            for k, hits in by_k.items()
        }


def retrieval_scores(
    image: torch.Tensor,
    text: torch.Tensor,
    text_image_index: torch.Tensor,
    *,
    ks: Sequence[int] = (1, 5, 10),
    block: int = 4096,
) -> RetrievalResult:
    """Ranks all texts for every image and all images for every text by cosine.

    The rank of the best positive is the number of candidates ahead of it, counted block by block, so memory
    grows with ``block`` squared and not with N_i times N_t. Cosines are exact (see ``cosine``): the result
    does not depend on ``block``.

    Example:
        >>> image = torch.eye(2)
        >>> retrieval_scores(image, image[[0, 0, 1]], torch.tensor([0, 0, 1]), ks=(1,)).scores()
        {'i2t_r1': 100.0, 't2i_r1': 100.0}

    Args:
        image: Image embeddings [N_i, D], any norm.
        text: Text embeddings [N_t, D], any norm.
        text_image_index: For each text the row of its photograph, integers of shape [N_t].
        ks: Cut-offs; one larger than the number of candidates makes every query a hit.
        block: Rows of images and of texts compared at once.

    Returns:
        The hits of each query; ``.scores()`` gives them in percent.

    Raises:
        TypeError: If embeddings are not floating point or the index is not integer.
        ValueError: If a row is zero or not finite, shapes disagree, an index is out of range, an image has no
            caption, or ``ks`` or ``block`` is not positive.
    """
    _check_inputs(image, text, text_image_index, ks, block)
    owner = text_image_index.to(image.device, torch.int64)
    text = text.to(image.device)
    own = _own_cosines(image, text, owner, block)
    best, best_text = _best_captions(own, owner, len(image))
    image_ranks, text_ranks = torch.zeros_like(best_text), torch.zeros_like(owner)
    for images, image_rows in _blocks(image, block):
        for texts, text_rows in _blocks(text, block):
            cosines = image_rows @ text_rows.T  # [block, block]
            image_ranks[images] += _count_ahead(cosines, best[images], best_text[images], texts.start)
            text_ranks[texts] += _count_ahead(cosines.T, own[texts], owner[texts], images.start)
    return RetrievalResult(
        i2t_hits={int(k): (image_ranks < k).cpu().numpy() for k in ks},
        t2i_hits={int(k): (text_ranks < k).cpu().numpy() for k in ks},
    )


def _check_inputs(
    image: torch.Tensor, text: torch.Tensor, text_image_index: torch.Tensor, ks: Sequence[int], block: int
) -> None:
    check_rows(image, "image")
    check_rows(text, "text")
    if image.shape[1] != text.shape[1]:
        raise ValueError(
            f"Image and text embeddings must have the same width. Got {image.shape[1]} and {text.shape[1]} instead."
        )
    if not ks or min(ks) < 1:
        raise ValueError(f"The cut-offs ks must be positive and not empty. Got {tuple(ks)} instead.")
    if block < 1:
        raise ValueError(f"The block size must be positive. Got {block} instead.")
    _check_index(text_image_index, len(text), len(image))


def _check_index(text_image_index: torch.Tensor, text_count: int, image_count: int) -> None:
    if text_image_index.is_floating_point() or text_image_index.dtype == torch.bool:
        raise TypeError(f"The text_image_index must hold integers. Got {text_image_index.dtype} instead.")
    if list(text_image_index.shape) != [text_count]:
        raise ValueError(
            f"The text_image_index must have one entry for each of the {text_count} texts. "
            f"Got shape {list(text_image_index.shape)} instead."
        )
    outside = (text_image_index < 0) | (text_image_index >= image_count)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"The text_image_index must be between 0 and {image_count - 1}. "
            f"Got {int(text_image_index[row])} for text {row}."
        )
    counts = torch.bincount(text_image_index.long(), minlength=image_count)
    if (counts == 0).any():
        row = int((counts == 0).nonzero()[0])
        raise ValueError(
            f"Every image must have at least one caption. Image {row} has none "
            f"({int((counts == 0).sum())} of {image_count} images). Leave such images out."
        )


def _blocks(embeddings: torch.Tensor, block: int) -> Iterator[tuple[slice, torch.Tensor]]:
    for start in range(0, len(embeddings), block):
        rows = slice(start, min(start + block, len(embeddings)))
        yield rows, grid_rows(embeddings[rows])


def _own_cosines(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor, block: int) -> torch.Tensor:
    """Returns each text's cosine with its own photograph, in grid units: float64 of shape [N_t]."""
    return torch.cat([(grid_rows(image[owner[texts]]) * rows).sum(dim=1) for texts, rows in _blocks(text, block)])


def _best_captions(own: torch.Tensor, owner: torch.Tensor, image_count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cosine [N_i] and the index [N_i] of each photograph's best caption, the lower index in a tie."""
    best = own.new_full((image_count,), -torch.inf).scatter_reduce(0, owner, own, "amax")
    winners = (own == best[owner]).nonzero().squeeze(1)
    index = owner.new_full((image_count,), len(own))
    return best, index.scatter_reduce(0, owner[winners], winners, "amin")


def _count_ahead(cosines: torch.Tensor, own: torch.Tensor, own_index: torch.Tensor, first: int) -> torch.Tensor:
    """Counts, for each query, the candidates of this block that rank before its positive.

    Args:
        cosines: Queries by candidates, [Q, C].
        own: Cosine of each query's positive, [Q].
        own_index: Index of each query's positive among all candidates, [Q].
        first: Index of this block's first candidate.
    """
    index = torch.arange(first, first + cosines.shape[1], device=cosines.device)
    tied_before = (cosines == own[:, None]) & (index < own_index[:, None])
    return ((cosines > own[:, None]) | tied_before).sum(dim=1)
