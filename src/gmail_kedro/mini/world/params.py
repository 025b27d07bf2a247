"""The size of the embedded corpora; each seed is that of scenes, captions and noise."""

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from gmail_kedro.params.base import Parameters


class MiniWorldParams(Parameters):
    """Scenes of the embedded corpus; each split has handwriting of its own."""

    GROUP: ClassVar[str] = "mini_world"

    train_count: PositiveInt
    val_count: PositiveInt
    test_count: PositiveInt
    seed: NonNegativeInt


class MiniBenchmarksParams(Parameters):
    """Scenes of the corpora that are only measured on: other scenes, in test handwriting."""

    GROUP: ClassVar[str] = "mini_benchmarks"

    flickr_count: PositiveInt  # in Flickr30k's place: other inks, papers and habits of speech; five captions each
    long_caption_count: PositiveInt  # in ShareGPT4V's place: one long caption each
    scienceqa_count: PositiveInt  # in ScienceQA's place: questions with choices
    mmmu_count: PositiveInt  # in MMMU's place: open questions
    seed: NonNegativeInt
