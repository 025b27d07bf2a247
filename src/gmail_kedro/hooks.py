"""When things are recorded in MLflow. The plug-in kedro-mlflow starts and ends the run; these hooks fill it."""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from gmail_kedro.corpora.measured_sets import check_class_sets
from gmail_kedro.definitions import read_definitions
from gmail_kedro.matrix_runs import links_text, matrix_tags, parent_run, table_links
from gmail_kedro.tracking import RunRecorder, default_uri, git_state, lineage_of, prepare_store
from gmail_kedro.zoo.checking import check_models

logger = logging.getLogger(__name__)

EXPERIMENT = "gmail_kedro"
PARAMETERS = "params:"
BENCHMARK, CLASS_SETS = "benchmark_corpus", "class_sets"
DEFINITIONS = {"table_definitions": "tables", "seeds": "seeds"}  # datasets, and the files of definitions they are
HISTORIES = {
    "alignment_history": "alignment",
    "captioner_history": "captioner",
    "retriever_history": "retriever",
    "fine_tuning_history": "fine_tuning",
    "vision_language_history": "vision_language",
}
SCORES = ("scores", "gap_scores", "cost_scores", "transfer_scores", "vision_language_scores", "*.scores")
ARTIFACTS = (
    "adapter",
    "feature_map",
    "scores",
    "transfer_scores",
    "vision_language_scores",
    "*.scores",
    "*figure",
    "*summary",
    "set_card*",
    "report_*",
)
SPLITTING_RUNNERS = ("ParallelRunner", "ThreadRunner")


class StoreHooks:
    """Runs before kedro-mlflow: readies the store, and refuses what would split a run."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Names the store (``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the project) and creates it."""
        try:
            settings = context.config_loader["mlflow"]
        except MissingConfigException:
            settings = {}
        os.environ.setdefault("MLFLOW_TRACKING_URI", default_uri(Path(context.project_path)))
        configured = settings.get("server", {}).get("mlflow_tracking_uri")
        experiment = settings.get("tracking", {}).get("experiment", {}).get("name", EXPERIMENT)
        prepare_store(configured or os.environ["MLFLOW_TRACKING_URI"], experiment=experiment)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Refuses runners with several threads or processes: each would get an MLflow run of its own.

        Raises:
            ValueError: If the runner is one of ``SPLITTING_RUNNERS``.
        """
        for name in SPLITTING_RUNNERS:
            if name in str(run_params.get("runner")):
                raise ValueError(
                    f"The runner {name} would split this run over several MLflow runs. Leave --runner away: "
                    "nodes run one after the other, and use all cores and GPUs themselves."
                )


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
    """Refuses models that do not exist before the first node runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Looks up every model that the pipeline's parameter groups name, before an MLflow run is started."""
        groups = [name for name in pipeline.inputs() if name.startswith(PARAMETERS)]
        check_models({name.removeprefix(PARAMETERS): catalog[name].load() for name in groups})


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


class TrackingHooks:
    """Runs after kedro-mlflow: records into the run that it started, and never stops a run by failing."""

    def __init__(self) -> None:
        self._project = Path.cwd()
        self._configuration: Mapping[str, Any] = {}
        self._catalog: CatalogProtocol = DataCatalog()
        self._recorder: RunRecorder | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remembers where the project is and how the profile is configured."""
        self._project, self._configuration = Path(context.project_path), context.config_loader

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Finds the run, and records its tags and the parameter groups that the pipeline uses."""
        import mlflow

        self._catalog, self._recorder = catalog, None
        run = mlflow.active_run()
        if run is None:  # conf/*/mlflow.yml switched tracking off for this pipeline
            return
        atexit.register(_end_as_killed, run.info.run_id)
        self._recorder = RunRecorder(mlflow.MlflowClient(), run.info.run_id)
        run_name = str(catalog["params:run_id"].load()) if "params:run_id" in catalog else "main"
        shown_name = f"{run_name} ({'+'.join(run_params.get('pipeline_names') or ['default'])})"
        groups = [name for name in pipeline.inputs() if name.startswith(PARAMETERS)]
        with _warns_instead_of_failing("the tags"):
            tags = {"run_name": run_name, "mlflow.runName": shown_name}
            self._recorder.set_lineage(git_state(self._project) | tags)
        with _warns_instead_of_failing("which tables this run belongs to"):
            tags = matrix_tags(run_name, self._tables())
            if tags:
                parent = parent_run(mlflow.MlflowClient(), run.info.experiment_id, mlflow.get_tracking_uri())
                self._recorder.set_lineage(tags | {"mlflow.parentRunId": parent})
        with _warns_instead_of_failing("the parameters"):
            self._recorder.log_parameters({name.removeprefix(PARAMETERS): catalog[name].load() for name in groups})

    @hook_impl
    def after_node_run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Records the histories and scores that a node gave, and the lineage of what it used."""
        if self._recorder is None:
            return
        for name, value in {**inputs, **outputs}.items():
            if not name.startswith(PARAMETERS):
                with _warns_instead_of_failing(f"the lineage of {name}"):
                    self._recorder.set_lineage(lineage_of(name, value, self._stored_at(name)))
        for name, value in outputs.items():
            with _warns_instead_of_failing(f"the curves or metrics of {name}"):
                if name in HISTORIES:
                    self._recorder.log_history(HISTORIES[name], value)
                elif _matches(name, SCORES):
                    prefix = name.rpartition(".")[0] or name.removesuffix("scores").rstrip("_")
                    self._recorder.log_scores(value, prefix=prefix)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Copies results worth keeping to the run's artifacts: adapter, scores, figures, the set's card."""
        if self._recorder is None or not _matches(dataset_name, ARTIFACTS):
            return
        with _warns_instead_of_failing(f"the file of {dataset_name}"):
            path = self._stored_at(dataset_name)
            if path is not None:
                self._recorder.log_path(path)
        if dataset_name == "report_page":
            with _warns_instead_of_failing("the links that compare runs"):
                self._show_links()

    def _show_links(self) -> None:
        """Writes to the terminal where the browser compares the runs of each table."""
        import mlflow

        experiment_id = mlflow.active_run().info.experiment_id
        reproduction = self._configuration["globals"]["reproduction"]
        links = table_links(mlflow.MlflowClient(), experiment_id, self._tables(), reproduction=reproduction)
        sys.stdout.write(f"\n{links_text(links)}")
        sys.stdout.flush()

    def _tables(self) -> dict[int, dict[str, Any]]:
        return read_definitions(self._configuration, "tables")["tables"]

    def _stored_at(self, name: str) -> Path | None:
        dataset = self._catalog.get(name)
        path = getattr(dataset, "filepath", None) or getattr(dataset, "_filepath", None)
        return None if path is None else self._project / str(path)


def _end_as_killed(run_id: str) -> None:
    """Ends a run that is still active when the process exits; MLflow would call an interrupted run finished."""
    import mlflow

    while (run := mlflow.active_run()) is not None and run.info.run_id == run_id:
        mlflow.end_run("KILLED")


@contextlib.contextmanager
def _warns_instead_of_failing(what: str) -> Iterator[None]:
    """The one place where tracking may fail: hours of training do not hang on a busy database."""
    try:
        yield
    except Exception as error:
        logger.warning("MLflow did not record %s; the run goes on. %s: %s", what, type(error).__name__, error)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
