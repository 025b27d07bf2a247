"""What a catalog cannot say in YAML is filled in, and the summary of a run is shown to whoever started it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline

from gmail_kedro.definitions import read_definitions

BENCHMARK = "benchmark_corpus"
DEFINITIONS = {"table_definitions": "tables", "seeds": "seeds"}  # datasets, and the files of definitions they are


class CatalogHooks:
    """Fills in what a catalog leaves out, and shows the summary."""

    def __init__(self) -> None:
        self._configuration: Mapping[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remembers how the profile is configured."""
        self._configuration = context.config_loader

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol) -> None:
        """Measures on the corpus itself where the catalog names no ``benchmark_corpus``."""
        if BENCHMARK not in catalog and "corpus" in catalog:
            catalog[BENCHMARK] = catalog["corpus"]  # the same object, so that a corpus in memory is read once

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Gives pipelines that ask for them the definitions of the profile: no catalog entry could merge files."""
        for name, file in DEFINITIONS.items():
            if name in pipeline.inputs():
                catalog[name] = MemoryDataset(read_definitions(self._configuration, file))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Writes the summary to the terminal, once it is stored."""
        if dataset_name == "summary":
            sys.stdout.write(f"\n{data}\n")
            sys.stdout.flush()


def place_of(dataset: Any) -> Path | None:
    """Returns where a dataset is stored; None for what is in memory only."""
    # Ours say ``filepath``, those of kedro-datasets ``_filepath``; neither is part of Kedro's interface.
    place = getattr(dataset, "filepath", None) or getattr(dataset, "_filepath", None)
    return None if place is None else Path(str(place))
