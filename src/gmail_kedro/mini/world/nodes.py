"""The nodes that make the mini world; what they return are files, which the catalog stores."""

from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.mini.world.worlds import FLICKR, LONG_CAPTIONS

Files = dict[str, bytes]


def make_mini_world(params: MiniWorldParams) -> Files:
    """Returns the files of the corpus that is trained and measured on."""
    from gmail_kedro.mini.world.world_files import draw_world

    return draw_world(params)


def make_mini_benchmarks(params: MiniBenchmarksParams) -> tuple[Files, Files]:
    """Returns the files of the two worlds that are only measured on: in Flickr30k's and in ShareGPT4V's place."""
    from gmail_kedro.mini.world.world_files import draw_world

    return draw_world(params, FLICKR), draw_world(params, LONG_CAPTIONS)


def make_mini_questions(params: MiniBenchmarksParams) -> tuple[Files, Files]:
    """Returns the files of the questions about scenes of the test handwriting, as ScienceQA's and as MMMU's."""
    from gmail_kedro.mini.world.question_files import mmmu_files, scienceqa_files
    from gmail_kedro.mini.world.visual_questions import draw_questions

    choices = draw_questions("test", kind="choices", count=params.scienceqa_count, seed=params.seed)
    unbounded = draw_questions("test", kind="open", count=params.mmmu_count, seed=params.seed)
    return scienceqa_files(choices, split="test"), mmmu_files(unbounded, split="validation")
