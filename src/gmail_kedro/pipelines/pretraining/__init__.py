"""The `pretraining` pipeline."""

from gmail_kedro.pipelines.pretraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
