"""Wiring of the evaluation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.evaluation.nodes import (
    collect_items,
    collect_scores,
    encode_benchmark,
    score_captions,
    score_classification,
    score_retrieval,
    write_captions,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: embeddings, captions, three groups of scores, and the scores file with the gap's beside them."""
    evaluation, run = "params:evaluation", "params:run"
    return Pipeline(
        [
            node(
                encode_benchmark,
                ["corpus", "adapter", "feature_map", "text_tower", "feature_store", evaluation, run],
                "benchmark",
            ),
            node(
                write_captions,
                ["captioner", "benchmark", evaluation, run, "params:downstream.max_tokens"],
                "predictions",
            ),
            node(score_captions, ["predictions", "benchmark", evaluation], ["captioning_scores", "captioning_items"]),
            node(score_retrieval, ["benchmark", evaluation], ["retrieval_scores", "retrieval_items"]),
            node(collect_items, ["captioning_items", "retrieval_items"], "item_scores"),
            node(
                score_classification,
                ["corpus", "benchmark", "adapter", "feature_store", evaluation, run],
                "classification_scores",
            ),
            node(
                collect_scores,
                [
                    "captioning_scores",
                    "retrieval_scores",
                    "classification_scores",
                    "gap_scores",
                    "corpus",
                    "generated_images",
                    "adapter",
                    evaluation,
                    run,
                ],
                "scores",
            ),
        ]
    )
