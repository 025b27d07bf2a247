"""The `reporting` pipeline, the `comparison` of two runs, and the `report` of a reproduction."""

from gmail_kedro.pipelines.reporting.pipeline import create_comparison, create_pipeline, create_report

__all__ = ["create_comparison", "create_pipeline", "create_report"]
