"""Wiring of the evaluation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.benchmark import encode_benchmark, score_retrieval
from gmail_kedro.pipelines.evaluation.nodes import collect_items, collect_scores, write_captions
from gmail_kedro.pipelines.evaluation.scoring import (
    score_captions,
    score_classification,
    score_linear_probe,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: embeddings, captions, four groups of scores, and the scores file with the gap's beside them."""
    evaluation, run = "params:evaluation", "params:run"
    return Pipeline(
        [
            node(
                encode_benchmark,
                ["benchmark_corpus", "adapter", "feature_map", "text_tower", "feature_store", evaluation, run],
                "benchmark",
            ),
            node(
                write_captions,
                ["captioner", "benchmark", evaluation, run, "params:downstream.max_tokens"],
                "predictions",
            ),
            node(
                score_captions,
                ["predictions", "benchmark", "benchmark_corpus", "feature_store", evaluation],
                ["captioning_scores", "captioning_items"],
            ),
            node(score_retrieval, ["benchmark", evaluation], ["retrieval_scores", "retrieval_items"]),
            node(
                score_classification,
                ["benchmark_corpus", "benchmark", "adapter", "feature_store", evaluation, run],
                ["classification_scores", "classification_items"],
            ),
            node(collect_items, ["captioning_items", "retrieval_items", "classification_items"], "item_scores"),
            node(
                score_linear_probe,
                ["benchmark_corpus", "adapter", "feature_store", evaluation, run],
                "linear_probe_scores",
            ),
            node(
                collect_scores,
                [
                    "captioning_scores",
                    "retrieval_scores",
                    "classification_scores",
                    "linear_probe_scores",
                    "gap_scores",
                    "benchmark_corpus",
                    "generated_images",
                    "adapter",
                    evaluation,
                    run,
                ],
                "scores",
            ),
        ]
    )
