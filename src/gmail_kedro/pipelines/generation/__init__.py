"""The `generation` pipeline."""

from gmail_kedro.pipelines.generation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
