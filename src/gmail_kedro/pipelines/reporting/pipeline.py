"""Wiring of the reporting pipelines."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.reporting.nodes import (
    compare_items,
    draw_captions_figure,
    draw_pairs_figure,
    measure_cost,
    summarize_runs,
)
from gmail_kedro.pipelines.reporting.reproduction_nodes import fill_tables, fit_laws, write_report, write_tables


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: Fig. 2, what training took, and the summary of all runs."""
    return Pipeline(
        [
            node(draw_pairs_figure, ["pairs", "corpus", "generated_images"], "pairs_figure", name="draw_pairs"),
            node(
                measure_cost,
                ["alignment_history", "captioner_history", "retriever_history"],
                "cost_scores",
                name="measure_cost",
            ),
            node(summarize_runs, ["all_scores", "scores", "params:run_id"], "summary", name="summarize_runs"),
        ],
        tags="reporting",
    )


def create_tables(**kwargs: object) -> Pipeline:
    """Returns: the tables from what the runs of the reproduction left, the fitted laws, and both in Markdown."""
    return Pipeline(
        [
            node(fill_tables, ["table_definitions", "seeds", "finished_runs"], "tables", name="fill_tables"),
            node(fit_laws, ["table_definitions", "tables"], ["laws", "scaling_points"], name="fit_laws"),
            node(
                write_tables,
                ["table_definitions", "tables", "laws"],
                ["tables_page", "table_numbers"],
                name="write_tables",
            ),
        ],
        tags="tables",
    )


def create_comparison(**kwargs: object) -> Pipeline:
    """Returns: paired tests of a run against the run ``baseline``, and the captions of both under real images."""
    names = ["params:run_id", "params:baseline"]
    items = ["item_scores", "baseline_item_scores"]
    captions = ["corpus", "predictions", "baseline_predictions"]
    return Pipeline(
        [
            node(
                compare_items,
                [*items, "scores", "baseline_scores", *names],
                ["comparison", "comparison_summary"],
                name="compare_items",
            ),
            node(draw_captions_figure, [*captions, *items, *names], "captions_figure", name="draw_captions"),
        ],
        tags="comparison",
    )


def create_report(**kwargs: object) -> Pipeline:
    """Returns: the page and the Markdown tables of a whole reproduction."""
    inputs = ["tables", "table_definitions", "laws", "finished_runs", "generated_sets", "params:report"]
    outputs = ["report_page", "report_markdown"]
    return Pipeline([node(write_report, inputs, outputs, name="write_report")], tags="report")
