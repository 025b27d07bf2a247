"""Kedro dataset classes: what the catalog can load and save."""
