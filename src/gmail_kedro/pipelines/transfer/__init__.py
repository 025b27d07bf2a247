"""The `transfer` pipeline."""

from gmail_kedro.pipelines.transfer.pipeline import create_pipeline

__all__ = ["create_pipeline"]
