"""Wiring of the transfer pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.evaluation.benchmark import encode_benchmark, score_retrieval
from gmail_kedro.pipelines.transfer.nodes import collect_transfer, collect_transfer_items, plan_transfer


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: for each corpus, embeddings through the run's real route and retrieval; then both in one file."""
    run = "params:run"
    # Evaluation's nodes with other inputs: both corpora are measured as the run's own is.
    route = ["adapter", "feature_map", "text_tower", "feature_store"]
    corpora = ["corpus", "flickr_corpus", "long_caption_corpus"]
    return Pipeline(
        [
            node(
                plan_transfer,
                [*corpora, "params:transfer", "params:evaluation"],
                ["flickr_evaluation", "long_caption_evaluation", "transfer_facts"],
                name="plan_transfer",
            ),
            node(
                encode_benchmark,
                ["flickr_corpus", *route, "flickr_evaluation", run],
                "flickr_benchmark",
                name="encode_flickr",
            ),
            node(
                encode_benchmark,
                ["long_caption_corpus", *route, "long_caption_evaluation", run],
                "long_caption_benchmark",
                name="encode_long_captions",
            ),
            node(
                score_retrieval,
                ["flickr_benchmark", "flickr_evaluation"],
                ["flickr_retrieval_scores", "flickr_retrieval_items"],
                name="score_flickr",
            ),
            node(
                score_retrieval,
                ["long_caption_benchmark", "long_caption_evaluation"],
                ["long_caption_retrieval_scores", "long_caption_retrieval_items"],
                name="score_long_captions",
            ),
            node(
                collect_transfer,
                ["flickr_retrieval_scores", "long_caption_retrieval_scores", "transfer_facts", "adapter", run],
                "transfer_scores",
                name="collect_transfer",
            ),
            node(
                collect_transfer_items,
                ["flickr_retrieval_items", "long_caption_retrieval_items"],
                "transfer_items",
                name="collect_transfer_items",
            ),
        ],
        tags="transfer",
    )
