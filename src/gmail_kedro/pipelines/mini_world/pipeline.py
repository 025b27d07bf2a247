"""The wiring of the mini world pipeline."""

from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from gmail_kedro.pipelines.mini_world.nodes import build_mini_benchmarks, build_mini_world


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Returns the pipeline that writes the embedded corpora.

    Args:
        **kwargs: Unused; Kedro's registry may pass some.
    """
    return pipeline(
        [
            node(build_mini_world, inputs="params:mini_world", outputs="corpus", name="build_mini_world"),
            node(
                build_mini_benchmarks,
                inputs="params:mini_benchmarks",
                outputs=["flickr_corpus", "long_caption_corpus"],
                name="build_mini_benchmarks",
            ),
        ]
    )
