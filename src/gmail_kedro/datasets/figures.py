"""Figures as files, written whole or not at all."""

from kedro_datasets import matplotlib

from gmail_kedro.datasets.atomic_files import WholeFile


class MatplotlibDataset(WholeFile, matplotlib.MatplotlibDataset):
    """``kedro_datasets.matplotlib.MatplotlibDataset`` of one figure, written whole.

    Example (YAML)::

        tsne_figure:
          type: gmail_kedro.datasets.figures.MatplotlibDataset
          filepath: data/08_reporting/main/tsne.png
    """
