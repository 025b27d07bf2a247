"""Wiring of the alignment pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.alignment.nodes import align, encode_teacher, fit_training_free


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: the teacher's features, then student, history and lineage, then the training-free map."""
    params, run = "params:alignment", "params:run"
    return Pipeline(
        [
            node(
                encode_teacher,
                ["pairs", "corpus", "feature_store", params, run],
                "teacher_features",
                name="encode_teacher",
            ),
            node(
                align,
                ["pairs", "corpus", "generated_images", "teacher_features", "checkpoints", params, run],
                ["adapter", "alignment_history", "alignment_lineage"],
                name="align",
            ),
            node(
                fit_training_free,
                ["pairs", "corpus", "generated_images", "adapter", "feature_store", params, run],
                "feature_map",
                name="fit_training_free",
            ),
        ],
        tags="alignment",
    )
