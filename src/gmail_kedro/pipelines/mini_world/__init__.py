"""Writes the embedded corpora."""

from gmail_kedro.pipelines.mini_world.pipeline import create_pipeline

__all__ = ["create_pipeline"]
