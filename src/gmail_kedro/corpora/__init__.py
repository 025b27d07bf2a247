"""Readers of captioned corpora, classification sets and questions on disk, one file a layout."""
