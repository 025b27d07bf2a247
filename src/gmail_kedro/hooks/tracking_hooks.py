"""When things are recorded in MLflow: kedro-mlflow starts and ends the run, this hook calls it and fills the run.

Hours of training must not hang on a store. The plug-in's own hooks raise where it cannot be used, so they are switched
off in ``settings`` and called here; what fails is said once, and the record goes into a journal that is imported later.
"""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from gmail_kedro.definitions import read_definitions
from gmail_kedro.hooks.catalog_hooks import place_of
from gmail_kedro.redaction import redact, redact_values
from gmail_kedro.tracking.mlflow_store import (
    TRACKING_URI,
    default_uri,
    end_stale_runs,
    in_no_time,
    open_store,
    process_tags,
    wait_shortly,
)
from gmail_kedro.tracking.pending_records import FOLDER, IMPORT, Journal, is_refusal, pending_journals
from gmail_kedro.tracking.run_record import (
    git_state,
    history_entry,
    lineage_of,
    parameters_entry,
    path_entry,
    scores_entry,
    tags_entry,
)
from gmail_kedro.tracking.table_links import links_text, matrix_tags, parent_run, table_links

logger = logging.getLogger(__name__)

EXPERIMENT = "gmail_kedro"
PARAMETERS = "params:"
HISTORIES = "_history"  # ends the names of training histories
SCORES = ("scores", "gap_scores", "cost_scores", "transfer_scores", "vision_language_scores", "*.scores")
RESULTS = ("adapter", "feature_map", "scores", "transfer_scores", "vision_language_scores", "*.scores")
ARTIFACTS = (*RESULTS, "*figure", "*summary", "set_card*", "report_*")


class TrackingHooks:
    """Records a run, and never stops it by failing."""

    def __init__(self) -> None:
        self._project = Path.cwd()
        self._configuration: Mapping[str, Any] = {}
        self._catalog: CatalogProtocol = DataCatalog()
        self._uri = ""
        self._trouble: Exception | None = None
        self._journal: Journal | None = None

    @cached_property
    def _plugin(self) -> Any:
        from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

        return MlflowHook()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Names the store (``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the project) and sees whether it answers."""
        if self._journal is not None:  # of a run in this process that was interrupted: Kedro tells nobody
            self._end_as_killed(self._journal)
        self._project, self._configuration = Path(context.project_path), context.config_loader
        settings = self._settings()
        wait_shortly()
        os.environ.setdefault(TRACKING_URI, default_uri(self._project))
        self._uri = settings.get("server", {}).get("mlflow_tracking_uri") or os.environ[TRACKING_URI]
        experiment = settings.get("tracking", {}).get("experiment", {}).get("name", EXPERIMENT)
        self._trouble = None
        try:
            open_store(self._uri, experiment=experiment)
            self._plugin.after_context_created(context)
        except Exception as error:
            self._trouble = error

    @hook_impl
    def after_catalog_created(
        self,
        catalog: CatalogProtocol,
        conf_catalog: dict[str, Any],
        conf_creds: dict[str, Any],
        parameters: dict[str, Any],
        save_version: str,
        load_versions: dict[str, str],
    ) -> None:
        """Lets the plug-in name the metrics of its own kinds of datasets."""
        self._plugin.after_catalog_created(catalog, conf_catalog, conf_creds, parameters, save_version, load_versions)

    # After every refusal and the lock: a run that was refused must leave nothing in the store.
    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Starts the run, and records its tags and the parameter groups that the pipeline uses."""
        self._catalog, self._journal = catalog, None
        names = run_params.get("pipeline_names") or ["__default__"]
        disabled = self._settings().get("tracking", {}).get("disable_tracking", {}).get("pipelines", [])
        if all(name in disabled for name in names):  # conf/*/mlflow.yml switched tracking off for this pipeline
            return
        self._journal = journal = self._start(run_params, pipeline, catalog)
        atexit.register(self._end_as_killed, self._journal)
        run_name = str(catalog["params:run_id"].load()) if "params:run_id" in catalog else "main"
        shown_name = f"{run_name} ({'+'.join(run_params.get('pipeline_names') or ['default'])})"
        groups = [name for name in pipeline.inputs() if name.startswith(PARAMETERS)]
        with _warns_instead_of_failing("the tags"):
            tags = {"run_name": run_name, "mlflow.runName": shown_name} | process_tags()
            journal.write(tags_entry(git_state(self._project) | tags))
        with _warns_instead_of_failing("which tables this run belongs to"):
            self._hang_under_reproduction(journal, run_name)
        with _warns_instead_of_failing("the parameters"):
            journal.write(parameters_entry({name.removeprefix(PARAMETERS): catalog[name].load() for name in groups}))

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Lets the plug-in record the node's parameters, without what is secret in them."""
        # The plug-in records str(value): a group gives its name there, and its values are recorded one by one above.
        shown = {name: redact(str(value)) for name, value in inputs.items() if name.startswith(PARAMETERS)}
        self._ask_plugin(self._plugin.before_node_run, node, catalog, shown, is_async)

    @hook_impl
    def after_node_run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Records the histories and scores that a node gave, and the lineage of what it used."""
        journal = self._journal
        if journal is None:
            return
        # Inputs too: a set or a student made by an earlier run is known only once a node has loaded it.
        for name, value in {**inputs, **outputs}.items():
            if not name.startswith(PARAMETERS):
                with _warns_instead_of_failing(f"the lineage of {name}"):
                    if tags := lineage_of(name, value):
                        journal.write(tags_entry(tags))
        for name, value in outputs.items():
            with _warns_instead_of_failing(f"the curves or metrics of {name}"):
                if name.endswith(HISTORIES):
                    journal.write(history_entry(name.removesuffix(HISTORIES), value))
                elif _matches(name, SCORES):
                    prefix = name.rpartition(".")[0] or name.removesuffix("scores").rstrip("_")
                    journal.write(scores_entry(value, prefix=prefix))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Copies results worth keeping to the run's artifacts: adapter, scores, figures, the set's card."""
        journal = self._journal
        if journal is None or not _matches(dataset_name, ARTIFACTS):
            return
        with _warns_instead_of_failing(f"the file of {dataset_name}"):
            path = self._stored_at(dataset_name)
            if path is not None:
                journal.write(path_entry(path))
        if dataset_name == "report_page":
            with _warns_instead_of_failing("the links that compare runs"):
                self._show_links()

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Ends the run as finished."""
        self._ask_plugin(self._plugin.after_pipeline_run, run_params, pipeline, catalog)
        self._finish("FINISHED")

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Ends the run as failed."""
        self._ask_plugin(self._plugin.on_pipeline_error, error, run_params, pipeline, catalog)
        self._finish("FAILED")

    def _start(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> Journal:
        """Lets the plug-in start the run; ends those that killed processes left running."""
        import mlflow

        folder = self._project / FOLDER
        if waiting := len(pending_journals(folder)):
            logger.warning("%d records of runs wait in %s. Bring them into MLflow with: %s", waiting, folder, IMPORT)
        client = run = None
        try:
            if self._trouble is not None:
                raise self._trouble
            client = mlflow.MlflowClient()
            self._plugin.before_pipeline_run(redact_values(run_params), pipeline, catalog)
            run = mlflow.active_run()
            for name in end_stale_runs(client, run.info.experiment_id):
                logger.info("MLflow's run %r was killed, and is marked so now.", name)
        except Exception as error:
            journal = Journal(folder, self._uri, run_id=None if run is None else run.info.run_id)
            journal.leave_store(error)
            _forget_run()
            return journal
        return Journal(folder, self._uri, client, run.info.run_id)

    def _ask_plugin(self, act: Callable[..., None], *content: Any) -> None:
        if self._journal is None or not self._journal.is_live:
            return
        try:
            act(*content)
        except Exception as error:
            if is_refusal(error):
                logger.warning("MLflow refused a part of the record; the run goes on. %s", redact(str(error)))
                return
            self._journal.leave_store(error)
            _forget_run()

    def _finish(self, status: str) -> None:
        if self._journal is not None:
            with _warns_instead_of_failing("how the run ended"):
                self._journal.finish(status)
            if not self._journal.is_live:
                _forget_run()
        self._journal = None

    def _end_as_killed(self, journal: Journal) -> None:
        """Ends a run that is still active when the process exits; MLflow would call an interrupted run finished."""
        import mlflow

        if journal is not self._journal:
            return
        while journal.is_live and mlflow.active_run() is not None:
            self._ask_plugin(partial(mlflow.end_run, "KILLED"))
        self._finish("KILLED")

    def _hang_under_reproduction(self, journal: Journal, run_name: str) -> None:
        import mlflow

        tags = matrix_tags(run_name, self._tables())
        if not tags:
            return
        if journal.is_live:
            experiment_id = mlflow.active_run().info.experiment_id
            parent = parent_run(mlflow.MlflowClient(), experiment_id, mlflow.get_tracking_uri())
            tags |= {"mlflow.parentRunId": parent}
        journal.write(tags_entry(tags))

    def _show_links(self) -> None:
        """Writes to the terminal where the browser compares the runs of each table."""
        import mlflow

        if self._journal is None or not self._journal.is_live:
            return
        experiment_id = mlflow.active_run().info.experiment_id
        reproduction = self._configuration["globals"]["reproduction"]
        links = table_links(mlflow.MlflowClient(), experiment_id, self._tables(), reproduction=reproduction)
        sys.stdout.write(f"\n{links_text(links)}")
        sys.stdout.flush()

    def _settings(self) -> dict[str, Any]:
        try:
            return self._configuration["mlflow"]
        except (KeyError, MissingConfigException):
            return {}

    def _tables(self) -> dict[int, dict[str, Any]]:
        return read_definitions(self._configuration, "tables")["tables"]

    def _stored_at(self, name: str) -> Path | None:
        place = place_of(self._catalog.get(name))
        return None if place is None else self._project / place


def _forget_run() -> None:
    """Takes the active run from MLflow, which would ask the store for it again at the latest when the process exits."""
    import mlflow

    with in_no_time():
        while mlflow.active_run() is not None:
            with contextlib.suppress(Exception):
                mlflow.end_run("FAILED")


@contextlib.contextmanager
def _warns_instead_of_failing(what: str) -> Iterator[None]:
    """What cannot be recorded is said; hours of training do not hang on it."""
    try:
        yield
    except Exception as error:
        name, words = type(error).__name__, redact(str(error))
        logger.warning("MLflow did not record %s; the run goes on. %s: %s", what, name, words)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
