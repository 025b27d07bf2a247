"""The `reporting` pipeline, the `comparison` of two runs, and the `tables` of the whole reproduction."""

from gmail_kedro.pipelines.reporting.pipeline import create_comparison, create_pipeline, create_tables

__all__ = ["create_comparison", "create_pipeline", "create_tables"]
