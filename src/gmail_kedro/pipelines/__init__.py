"""One folder a pipeline: ``nodes.py`` computes, ``pipeline.py`` wires."""
