"""Image-to-text and text-to-image recall at k, with any number of captions for each image.

An image query is a hit if at least one of its captions is among the k best texts; a text query is a hit if
its image is among the k best. Equal cosines rank by index, the lower first.

Ranks are counted in float32 wherever its error cannot change them, and exactly (see ``cosine``) for the few candidates
that are as close to a positive as that error: the result is that of exact cosines at the speed of float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from gmail_kedro.metrics.cosine import GRID, check_rows, grid_rows

PAIRS_AT_ONCE, MOST_PAIRS = 1024, 8192


@dataclass(frozen=True)
class RetrievalResult:
    """Which queries found what they were looking for."""

    i2t_hits: dict[int, np.ndarray]  # for each k, bool of shape [N_i]: the image has a caption in the top k
    t2i_hits: dict[int, np.ndarray]  # for each k, bool of shape [N_t]: the caption's image is in the top k

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
    block: int = 1024,
) -> RetrievalResult:
    """Ranks all texts for every image and all images for every text by cosine.

    The rank of the best positive is the number of candidates ahead of it, counted block by block, so memory
    grows with ``block`` squared and not with N_i times N_t: 31,783 x 158,915 needs under 0.5 GB above the
    embeddings. The result does not depend on ``block``, the number of threads or the machine.

    Example:
        >>> image = torch.eye(2)
        >>> retrieval_scores(image, image[[0, 0, 1]], torch.tensor([0, 0, 1]), ks=(1,)).scores()
        {'i2t_r1': 100.0, 't2i_r1': 100.0}

    Args:
        image: Image embeddings [N_i, D], any norm.
        text: Text embeddings [N_t, D], any norm.
        text_image_index: For each text the row of its image, integers of shape [N_t].
        ks: Cut-offs; one larger than the number of candidates makes every query a hit.
        block: About ``block`` times ``block`` cosines are held at once.

    Raises:
        TypeError: If embeddings are not floating point or the index is not integer.
        ValueError: If a row is zero or not finite, shapes disagree, an index is out of range, an image has no
            caption, or ``ks`` or ``block`` is not positive.
    """
    _check_inputs(image, text, text_image_index, ks, block)
    image, text, owner = image.detach().cpu(), text.detach().cpu(), text_image_index.cpu().long()
    own = _own_cosines(image, text, owner, block)
    best, best_text = _best_captions(own, owner, len(image))
    by_image = _Queries(best.numpy(), best_text.numpy(), width=image.shape[1])
    by_text = _Queries(own.numpy(), owner.numpy(), width=image.shape[1])
    for images in _blocks(len(image), 2 * block):  # tall blocks: fewer texts are normalised anew
        image_rows = _unit_rows(image[images])
        for texts in _blocks(len(text), max(1, block // 2)):
            cosines = image_rows @ _unit_rows(text[texts]).T  # [images, texts]
            pair = _Pair(image, text, images, texts)
            by_image.count_ahead(cosines, pair, axis=1)
            by_text.count_ahead(cosines, pair, axis=0)
    return RetrievalResult(
        i2t_hits={int(k): by_image.ranks < k for k in ks},
        t2i_hits={int(k): by_text.ranks < k for k in ks},
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


@dataclass(frozen=True)
class _Pair:
    """A block of images and a block of texts."""

    image: torch.Tensor
    text: torch.Tensor
    images: slice
    texts: slice

    def exact_cosines(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Returns exact cosines, in grid units, of some images with some texts of the block, float64 of shape [P]."""
        image, text = self.image[self.images], self.text[self.texts]
        if len(rows) > MOST_PAIRS:  # many ties, as of a model that has collapsed: the whole block is cheaper
            return (grid_rows(image) @ grid_rows(text).T).numpy()[rows, columns]
        exact = np.empty(len(rows))
        for part in _blocks(len(rows), PAIRS_AT_ONCE):
            exact[part] = (grid_rows(image[rows[part]]) * grid_rows(text[columns[part]])).sum(dim=1).numpy()
        return exact


@dataclass
class _Queries:
    """Where the best positive of each query stands, counted so far."""

    own: np.ndarray  # exact cosine of each query's best positive, in grid units, float64 [Q]
    index: np.ndarray  # index of that positive among all candidates, int64 [Q]
    width: int  # D of the embeddings, which bounds the error of a float32 cosine
    ranks: np.ndarray = field(init=False)  # candidates found ahead of it, int64 [Q]

    def __post_init__(self) -> None:
        cosine, error = self.own / GRID**2, _float32_error(self.width)
        self._low, self._high = (cosine - error).astype(np.float32), (cosine + error).astype(np.float32)
        self.ranks = np.zeros(len(self.own), dtype=np.int64)

    def count_ahead(self, cosines: np.ndarray, pair: _Pair, *, axis: int) -> None:
        """Adds the candidates of one block that rank before the positives.

        Args:
            cosines: Of its images with its texts, float32 [I, T].
            pair: The block.
            axis: The candidates' axis: 1 for image queries, 0 for text queries.
        """
        queries, first = (pair.images, pair.texts.start) if axis == 1 else (pair.texts, pair.images.start)
        low, high = (np.expand_dims(bound[queries], axis) for bound in (self._low, self._high))
        ahead = cosines > high  # beyond any rounding
        self.ranks[queries] += ahead.view(np.uint8).sum(axis=axis, dtype=np.int32)
        # Between low and high rounding may decide, so these few are computed exactly.
        rows, columns = np.divmod(np.flatnonzero((cosines >= low) != ahead), cosines.shape[1])
        query, candidate = (rows, columns) if axis == 1 else (columns, rows)
        exact, own = pair.exact_cosines(rows, columns), self.own[queries][query]
        is_ahead = (exact > own) | ((exact == own) & (candidate + first < self.index[queries][query]))
        self.ranks[queries] += np.bincount(query[is_ahead], minlength=cosines.shape[1 - axis])


def _float32_error(width: int) -> float:
    """Returns more than a float32 cosine of two rounded unit rows can be away from the exact one.

    A sum of D products in any order is off by at most D times 2**-24; the rest is the rounding of the rows, of the
    bound itself, and of the grid.
    """
    return (width + 16) * 2.0**-24 * 1.01 + width**0.5 / GRID


def _unit_rows(embeddings: torch.Tensor) -> np.ndarray:
    rows = embeddings.double()
    return (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)).float().numpy()


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _own_cosines(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor, block: int) -> torch.Tensor:
    """Returns each text's cosine with its own image, in grid units: float64 of shape [N_t]."""
    own = torch.empty(len(text), dtype=torch.float64)  # one array: many small ones would pin the freed memory between
    for texts in _blocks(len(text), block):
        own[texts] = (grid_rows(image[owner[texts]]) * grid_rows(text[texts])).sum(dim=1)
    return own


def _best_captions(own: torch.Tensor, owner: torch.Tensor, image_count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cosine [N_i] and the index [N_i] of each image's best caption, the lower index in a tie."""
    best = own.new_full((image_count,), -torch.inf).scatter_reduce(0, owner, own, "amax")
    winners = (own == best[owner]).nonzero().squeeze(1)
    index = owner.new_full((image_count,), len(own))
    return best, index.scatter_reduce(0, owner[winners], winners, "amin")
