"""The `alignment` pipeline."""

from gmail_kedro.pipelines.alignment.pipeline import create_pipeline

__all__ = ["create_pipeline"]
