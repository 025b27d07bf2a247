"""The `downstream` pipeline."""

from gmail_kedro.pipelines.downstream.pipeline import create_pipeline

__all__ = ["create_pipeline"]
