"""Wiring of the diagnostics pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.diagnostics.nodes import (
    draw_spectra_figure,
    draw_tsne_figure,
    encode_gap,
    list_gap_items,
    score_gap,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: the held-out pairs' embeddings, the gap before and after alignment, Fig. 3 and the spectra."""
    diagnostics, run = "params:diagnostics", "params:run"
    return Pipeline(
        [
            node(
                encode_gap,
                ["pairs", "corpus", "generated_images", "adapter", "feature_map", "feature_store", diagnostics, run],
                "gap_embeddings",
                name="encode_gap",
            ),
            node(score_gap, ["gap_embeddings", diagnostics], "gap_scores", name="score_gap"),
            node(list_gap_items, ["gap_embeddings"], "gap_items", name="list_gap_items"),
            node(draw_tsne_figure, ["gap_embeddings", "gap_scores", diagnostics], "tsne_figure", name="draw_tsne"),
            node(draw_spectra_figure, ["gap_embeddings"], "spectra_figure", name="draw_spectra"),
        ],
        tags="diagnostics",
    )
