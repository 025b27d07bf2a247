"""The wiring of the mini world pipeline."""

from typing import Any

from kedro.pipeline import Pipeline, node

from gmail_kedro.mini.world.nodes import make_mini_benchmarks, make_mini_questions, make_mini_world


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Returns the pipeline that makes the embedded corpora and questions."""
    world, benchmarks = "params:mini_world", "params:mini_benchmarks"
    return Pipeline(
        [
            node(make_mini_world, world, "corpus", name="make_mini_world"),
            node(
                make_mini_benchmarks, benchmarks, ["flickr_corpus", "long_caption_corpus"], name="make_mini_benchmarks"
            ),
            node(
                make_mini_questions, benchmarks, ["scienceqa_questions", "mmmu_questions"], name="make_mini_questions"
            ),
        ],
        tags="mini_world",
    )
