"""Named streams of random numbers: what a stream draws is a function of seed, stream and index alone.

So a training that goes on after a kill draws what it would have drawn, whatever else was drawn in between, and a new
use of chance takes a new name and moves no number of the others. The values are part of what a seed means; changing one
changes results. Four values serve two uses each, which then draw the same numbers: an accident, kept because the
packaged weights and the published tables were made with it.

Not among them: the order of rows in an epoch (``batches.batch_rows``) is seeded with the pair (seed, epoch), so that
the 22nd epoch shares its numbers with ``MIXED_ROWS`` without an index, and torch's own generator (initial weights,
dropout), which takes one number.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn, by the number that stands for it in the seed; a name says at which index, where it has one."""

    # Runs
    ROW_OF_GROUP = 1  # which of an image's captions a step shows
    MIXED_ROWS = 21  # which rows are real and which generated, where a consumer trains on both
    RETRIEVAL_NOISE = 30  # IFCap's, on the texts that retrieve others
    CAPTIONER_NOISE = 31  # IFCap's on a step's embeddings, and which of its entities are left out
    CONVERSATIONS = 71  # questions about a caption, and the order of the turns
    LANGUAGE_DROPOUT = 73  # a step's, in a vision-language model's LoRA

    # Pre-training of the mini models: a step's batch, or the texts that are written before the first step
    VAE = 1  # shared with ROW_OF_GROUP
    GENERATOR_PROMPTS = 2
    GENERATOR = 3
    CLIP = 4
    CLIP_TEXTS = 5
    DIGIT_READER = 6
    LANGUAGE_MODEL = 7
    LANGUAGE_MODEL_TEXTS = 8
    MEASURED_TUNING = 10  # of the encoder whose retrieval a card shows
    LATENT_READER = 11
    CLIP_VISION = 31  # shared with CAPTIONER_NOISE
    SHORT_CLIP = 41
    LONG_CLIP = 42
    WEB_TEXTS = 43
    LONG_CAPTIONS = 44
    TOKENIZER_TEXTS = 50
    LLAMA = 51
    SIGLIP_IMAGES = 51  # shared with LLAMA
    SIGLIP_TEXT_TOWER = 52
    SIGLIP_TEXTS = 53
    SYNCLR = 61
    QUESTIONS = 61  # the mini world's, by kind; shared with SYNCLR's first two steps
    SYNCLR_CAPTIONS = 62
    FLUX_VAE = 81
    FLUX_TEACHER = 82
    FLUX_GUIDANCE = 83


def stream_rng(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """Returns the generator of a stream, of one step or item where an index is given."""
    return np.random.default_rng((seed, stream, *index))
