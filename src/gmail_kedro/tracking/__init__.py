"""Runs in MLflow, and what must not be lost or told of them."""
