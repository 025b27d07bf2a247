"""The `classification` pipeline, and `fine_tuning`, which trains for it."""

from gmail_kedro.pipelines.classification.pipeline import create_fine_tuning, create_pipeline

__all__ = ["create_fine_tuning", "create_pipeline"]
