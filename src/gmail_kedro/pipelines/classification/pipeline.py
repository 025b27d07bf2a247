"""Wiring of the classification pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.classification.nodes import (
    collect_class_items,
    collect_class_scores,
    fine_tune,
    score_classification,
    score_fine_tuning,
    score_linear_probe,
)

SETS = ["class_sets", "benchmark_corpus", "adapter"]
EVALUATION, FINE_TUNING, RUN = "params:evaluation", "params:fine_tuning", "params:run"


def create_fine_tuning() -> Pipeline:
    """Returns: classifiers that are fine-tuned on the real route, and their histories."""
    return Pipeline(
        [
            node(
                fine_tune,
                [*SETS, "checkpoints", FINE_TUNING, EVALUATION, RUN],
                ["classifiers", "fine_tuning_history"],
                name="fine_tune",
            )
        ],
        tags=["fine_tuning", "downstream"],
    )


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: zero-shot, linear probes and fine-tuned classifiers on every set, then all scores in one."""
    return Pipeline(
        [
            node(
                score_classification,
                [*SETS, "feature_map", "feature_store", EVALUATION, RUN],
                ["classification_scores", "classification_items"],
                name="score_zero_shot",
            ),
            node(
                score_linear_probe,
                [*SETS, "feature_store", EVALUATION, FINE_TUNING, RUN],
                ["linear_probe_scores", "linear_probe_items"],
                name="score_linear_probe",
            ),
            node(
                score_fine_tuning,
                [*SETS, "classifiers", FINE_TUNING, EVALUATION, RUN],
                ["fine_tuning_scores", "fine_tuning_items"],
                name="score_fine_tuning",
            ),
            node(
                collect_class_scores,
                ["classification_scores", "linear_probe_scores", "fine_tuning_scores"],
                "class_scores",
                name="collect_class_scores",
            ),
            node(
                collect_class_items,
                ["classification_items", "linear_probe_items", "fine_tuning_items"],
                "class_items",
                name="collect_class_items",
            ),
        ],
        tags=["classification", "evaluation"],
    )
