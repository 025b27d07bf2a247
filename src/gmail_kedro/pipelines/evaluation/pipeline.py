"""Wiring of the evaluation pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.evaluation.nodes import (
    collect_scores,
    draw_tsne_figure,
    encode_benchmark,
    encode_gap,
    score_captions,
    score_classification,
    score_gap,
    score_retrieval,
    write_captions,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: embeddings, captions, the four groups of scores, Fig. 3 and the scores file."""
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
            node(score_captions, ["predictions", "benchmark", evaluation], "captioning_scores"),
            node(score_retrieval, ["benchmark", evaluation], "retrieval_scores"),
            node(
                score_classification,
                ["corpus", "benchmark", "adapter", "feature_store", evaluation, run],
                "classification_scores",
            ),
            node(
                encode_gap,
                ["pairs", "corpus", "generated_images", "adapter", "feature_store", run],
                "gap_embeddings",
            ),
            node(score_gap, ["gap_embeddings", evaluation], "gap_scores"),
            node(draw_tsne_figure, ["gap_embeddings", "gap_scores", evaluation], "tsne_figure"),
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
