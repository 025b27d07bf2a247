"""Wiring of the generation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.generation.card import write_set_card
from gmail_kedro.pipelines.generation.nodes import generate_images, plan_generation, read_captions, write_manifest


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: captions, then the plan, the images, their manifest and the set's card.

    Args:
        **kwargs: Unused; Kedro's registry may pass some.
    """
    params = "params:generation"
    return Pipeline(
        [
            node(
                read_captions,
                ["corpus", "benchmark_corpus", "params:quality"],
                ["captions", "unreadable_photographs"],
                name="read_captions",
            ),
            node(plan_generation, ["captions", params, "params:pairing"], "generation_plan", name="plan_generation"),
            node(
                generate_images,
                ["generation_plan", "shard_folder", params, "params:run", "params:quality"],
                "generated_images",
                name="generate_images",
            ),
            node(
                write_manifest,
                ["generation_plan", "generated_images", params],
                "generated_manifest@frame",
                name="write_manifest",
            ),
            node(
                write_set_card,
                ["corpus", "generated_manifest@frame", "generated_images", params],
                ["set_card", "set_card_page", "set_card_figure"],
                name="write_set_card",
            ),
        ],
        tags="generation",
    )
