"""The `reporting` pipeline, and the `comparison` of two runs."""

from gmail_kedro.pipelines.reporting.pipeline import create_comparison, create_pipeline

__all__ = ["create_comparison", "create_pipeline"]
