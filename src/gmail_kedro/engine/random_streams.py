"""Named streams of random numbers: what a stream draws is a function of seed, stream and index alone.

So a training that goes on after a kill draws what it would have drawn, whatever else was drawn in between, and a new
use of chance takes a new name and moves no number of the others. The values are part of what a seed means; changing one
changes results. Two uses of one value share their numbers and are therefore named here together: that was no choice
but an accident, kept because the packaged weights and the published tables were made with it.

Not among them: the order of rows in an epoch (``batches.batch_rows``) is seeded with the pair (seed, epoch), so that
the 22nd epoch shares its numbers with ``MIXED_ROWS`` without an index, and torch's own generator (initial weights,
dropout), which takes one number.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn, by the number that stands for it in the seed."""

    ROW_OF_GROUP = 1  # which of an image's captions an epoch shows
    MIXED_ROWS = 21  # which rows are real and which generated, where a consumer trains on both
    RETRIEVAL_NOISE = 30  # IFCap's on the texts that retrieve others
    CAPTIONER_NOISE = 31  # IFCap's on the embeddings and its choice of entities, step by step
    CONVERSATIONS = 71  # questions about a caption, and the order of the turns
    LANGUAGE_DROPOUT = 73  # of a vision-language model's LoRA, step by step


def stream_rng(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """Returns the generator of a stream, of one step or item where an index is given."""
    return np.random.default_rng((seed, stream, *index))
