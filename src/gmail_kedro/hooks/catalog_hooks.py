"""What happens around a run beside its tracking: the catalog is filled in, what is not there is refused early."""

import sys
from collections.abc import Mapping
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline

from gmail_kedro.definitions import read_definitions
from gmail_kedro.evaluation.measured_sets import check_class_sets
from gmail_kedro.models.inventory import check_models
from gmail_kedro.params.run import RunParams

PARAMETERS = "params:"
BENCHMARK, CLASS_SETS = "benchmark_corpus", "class_sets"
DEFINITIONS = {"table_definitions": "tables", "seeds": "seeds"}  # datasets, and the files of definitions they are


class CatalogHooks:
    """Fills in what a catalog leaves out."""

    def __init__(self) -> None:
        self._configuration: Mapping[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remembers how the profile is configured."""
        self._configuration = context.config_loader

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Gives pipelines that ask for them the definitions of the profile: no catalog entry could merge files."""
        for name, file in DEFINITIONS.items():
            if name in pipeline.inputs():
                catalog[name] = MemoryDataset(read_definitions(self._configuration, file))

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol) -> None:
        """Measures on the corpus itself where the catalog names no ``benchmark_corpus``."""
        if BENCHMARK not in catalog and "corpus" in catalog:
            catalog[BENCHMARK] = catalog["corpus"]


class ModelHooks:
    """Refuses models and devices that do not exist before the first node runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Looks up every model and device that the pipeline's parameters name, before an MLflow run is started."""
        names = [name for name in pipeline.inputs() if name.startswith(PARAMETERS)]
        groups = {name.removeprefix(PARAMETERS): catalog[name].load() for name in names}
        check_models(groups)
        run = groups.get(RunParams.GROUP)
        if isinstance(run, RunParams) and run.device != "auto" and run.engine == "local":
            from gmail_kedro.hardware import resolve_device  # takes torch's seconds

            resolve_device(run.device)


class ClassSetHooks:
    """Refuses classification sets that are not there before the first node runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Opens the sets of the catalog that the pipeline measures, and what of them it trains on; reads no picture."""
        if CLASS_SETS in pipeline.inputs():
            evaluation, fine_tuning = (catalog[f"{PARAMETERS}{name}"].load() for name in ("evaluation", "fine_tuning"))
            check_class_sets(catalog[CLASS_SETS].load(), lambda: _labels_of(catalog), evaluation, fine_tuning)


def _labels_of(catalog: CatalogProtocol) -> list[str] | None:
    """Returns the names of the corpus's own tasks, or None where the pipeline has yet to make the corpus."""
    return list(catalog[BENCHMARK].load().labels) if catalog.exists(BENCHMARK) else None


class SummaryHooks:
    """Shows the summary to whoever started the run."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Writes the summary to the terminal once it is stored."""
        if dataset_name == "summary":
            sys.stdout.write(f"\n{data}\n")
            sys.stdout.flush()
