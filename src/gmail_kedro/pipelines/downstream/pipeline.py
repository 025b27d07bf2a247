"""Wiring of the downstream pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.downstream.nodes import encode_training_features, train_captioner, tune_text_tower


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: training features on the declared route, then captioner and text tower with their histories."""
    params, ifcap, run = "params:downstream", "params:ifcap", "params:run"
    sources = ["pairs", "corpus", "generated_images", "adapter", "feature_map", "feature_store"]
    return Pipeline(
        [
            node(
                encode_training_features,
                [*sources, params, ifcap, run],
                "training_features",
                name="encode_training_features",
            ),
            node(
                train_captioner,
                ["pairs", "corpus", "training_features", "checkpoints", params, ifcap, run],
                ["captioner", "captioner_history"],
                name="train_captioner",
            ),
            node(
                tune_text_tower,
                ["pairs", "training_features", "adapter", "checkpoints", "params:retriever", run],
                ["text_tower", "retriever_history"],
                name="tune_text_tower",
            ),
        ],
        tags="downstream",
    )
