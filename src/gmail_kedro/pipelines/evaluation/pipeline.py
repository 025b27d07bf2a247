"""Wiring of the evaluation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.evaluation.nodes import (
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
            node(encode_benchmark, ["corpus", "feature_store", evaluation, run], "benchmark"),
            node(
                write_captions,
                ["captioner", "benchmark", evaluation, run, "params:downstream.max_tokens"],
                "predictions",
            ),
            node(score_captions, ["predictions", "benchmark", evaluation], "captioning_scores"),
            node(score_retrieval, ["benchmark", evaluation], "retrieval_scores"),
            node(
                score_classification,
                ["corpus", "benchmark", "feature_store", evaluation, run],
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
                    evaluation,
                    run,
                ],
                "scores",
            ),
        ]
    )
