"""The `reporting` pipeline, the `comparison` of two runs, `tables` and `report` of the whole reproduction."""

from gmail_kedro.pipelines.reporting.pipeline import create_comparison, create_pipeline, create_report, create_tables

__all__ = ["create_comparison", "create_pipeline", "create_report", "create_tables"]
