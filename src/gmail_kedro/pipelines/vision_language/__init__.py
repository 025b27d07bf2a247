"""The `vision_language` pipeline."""

from gmail_kedro.pipelines.vision_language.pipeline import create_pipeline

__all__ = ["create_pipeline"]
