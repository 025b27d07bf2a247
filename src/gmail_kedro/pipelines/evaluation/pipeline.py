"""Wiring of the evaluation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.evaluation.benchmark import encode_benchmark, score_retrieval
from gmail_kedro.pipelines.evaluation.nodes import collect_items, collect_scores, score_captions, write_captions


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: embeddings, captions, their scores, and the scores file with the gap's and classification's beside."""
    evaluation, run = "params:evaluation", "params:run"
    return Pipeline(
        [
            node(
                encode_benchmark,
                ["benchmark_corpus", "adapter", "feature_map", "text_tower", "feature_store", evaluation, run],
                "benchmark",
                name="encode_benchmark",
            ),
            node(
                write_captions,
                # As many tokens as it was trained on; the rest of downstream is no matter of evaluation.
                ["captioner", "benchmark", evaluation, run, "params:downstream.max_tokens"],
                "predictions",
                name="write_captions",
            ),
            node(
                score_captions,
                ["predictions", "benchmark", "benchmark_corpus", "feature_store", evaluation],
                ["captioning_scores", "captioning_items"],
                name="score_captions",
            ),
            node(
                score_retrieval,
                ["benchmark", evaluation],
                ["retrieval_scores", "retrieval_items"],
                name="score_retrieval",
            ),
            node(
                collect_items,
                ["captioning_items", "retrieval_items", "class_items", "gap_items"],
                "item_scores",
                name="collect_items",
            ),
            node(
                collect_scores,
                [
                    "captioning_scores",
                    "retrieval_scores",
                    "class_scores",
                    "gap_scores",
                    "benchmark_corpus",
                    "generated_images",
                    "adapter",
                    evaluation,
                    run,
                ],
                "scores",
                name="collect_scores",
            ),
        ],
        tags="evaluation",
    )
