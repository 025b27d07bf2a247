"""The `diagnostics` pipeline."""

from gmail_kedro.pipelines.diagnostics.pipeline import create_pipeline

__all__ = ["create_pipeline"]
