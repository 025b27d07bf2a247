"""Wiring of the reporting pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.reporting.nodes import draw_pairs_figure, summarize_runs


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: Fig. 2 and the summary of all runs."""
    return Pipeline(
        [
            node(draw_pairs_figure, ["pairs", "corpus", "generated_images"], "pairs_figure"),
            node(summarize_runs, ["all_scores", "scores", "params:run_id"], "summary"),
        ]
    )
