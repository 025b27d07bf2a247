"""Wiring of the downstream pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.downstream.nodes import encode_training_images, train_captioner


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: training features on the declared route, then captioner and history."""
    return Pipeline(
        [
            node(
                encode_training_images,
                [
                    "pairs",
                    "corpus",
                    "generated_images",
                    "adapter",
                    "feature_store",
                    "params:downstream",
                    "params:run",
                ],
                "training_features",
            ),
            node(
                train_captioner,
                ["pairs", "training_features", "checkpoints", "params:downstream", "params:run"],
                ["captioner", "captioner_history"],
            ),
        ]
    )
