"""GMAIL: generated images as a modality of their own, aligned with real images.

The package is a Kedro project. Start reading at ``pipeline_registry.py`` (what runs),
``method/alignment.py`` (the paper's equation) and ``mini/`` (the embedded world).
"""

import os

# Read when torch loads OpenMP. Threads that wait by spinning bring each other to a halt as soon as anything else uses
# a core: a two-thread run beside one busy process was several times slower than a single thread.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
