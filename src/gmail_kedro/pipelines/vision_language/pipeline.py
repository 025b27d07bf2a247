"""Wiring of the vision_language pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.vision_language.nodes import answer_prompts, score_answers, train_vision_language_model


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: a LLaVA trained through the student's tower, what it writes about real images, and its scores."""
    params, run, evaluation = "params:vision_language", "params:run", "params:evaluation"
    questions = ["scienceqa_questions", "mmmu_questions"]
    return Pipeline(
        [
            node(
                train_vision_language_model,
                ["pairs", "corpus", "generated_images", "adapter", "checkpoints", params, run],
                ["vision_language_model", "vision_language_history"],
                name="train_vision_language",
            ),
            node(
                answer_prompts,
                ["vision_language_model", "corpus", *questions, "adapter", params, evaluation, run],
                "vision_language_predictions",
                name="answer_prompts",
            ),
            node(
                score_answers,
                [
                    "vision_language_predictions",
                    "corpus",
                    *questions,
                    "adapter",
                    "feature_store",
                    params,
                    evaluation,
                    run,
                ],
                ["vision_language_scores", "vision_language_items"],
                name="score_answers",
            ),
        ],
        tags="vision_language",
    )
