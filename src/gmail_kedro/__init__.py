"""GMAIL: generated images as a modality of their own, aligned with photographs.

The package is a Kedro project. Start reading at ``pipeline_registry.py`` (what runs),
``method/alignment.py`` (the paper's equation) and ``mini/`` (the embedded world).
"""

__version__ = "0.1.0"
