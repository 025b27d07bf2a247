"""Wiring of the alignment pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.alignment.nodes import align, encode_teacher


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: teacher features, then adapter, history and lineage."""
    return Pipeline(
        [
            node(encode_teacher, ["pairs", "corpus", "feature_store", "params:run"], "real_features"),
            node(
                align,
                ["pairs", "generated_images", "real_features", "checkpoints", "params:alignment", "params:run"],
                ["adapter", "alignment_history", "alignment_lineage"],
            ),
        ]
    )
