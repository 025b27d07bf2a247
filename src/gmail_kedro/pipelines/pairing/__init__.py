"""The `pairing` pipeline."""

from gmail_kedro.pipelines.pairing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
