"""What guards the work of a run: its lock, how it ends when asked to, and its training state."""

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from gmail_kedro.hooks.catalog_hooks import place_of

if TYPE_CHECKING:
    from gmail_kedro.engine.checkpoint import Checkpoints

CHECKPOINTS, RUN_ID = "checkpoints", "params:run_id"


class RunLockHooks:
    """Lets one process at a time write the results of a run, and one that is asked to stop end as one that may go on.

    Among the hooks that come first it acts as the last: what they refuse leaves no trace.
    """

    def __init__(self) -> None:
        self._data = Path()
        self._held = ExitStack()
        atexit.register(self._held.close)  # Kedro tells nobody of a run that was stopped

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remembers where data lie."""
        self._data = Path(context.project_path) / "data"

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Takes the lock of the run into whose folders the pipeline writes, if it does.

        Raises:
            RuntimeError: If another process holds it.
        """
        from gmail_kedro.engine.run_lock import hold_run
        from gmail_kedro.engine.stopping import stopping_at_once

        self._held.close()  # of a run in this process that was stopped
        if RUN_ID in catalog:
            run_id = str(catalog[RUN_ID].load())
            if any(self._is_of(run_id, place_of(catalog.get(name))) for name in pipeline.all_outputs()):
                path = self._data / ".locks" / f"{run_id.replace('/', '+')}.lock"
                self._held.enter_context(hold_run(path, run_id))
        self._held.enter_context(stopping_at_once())

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Gives the lock back."""
        self._held.close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Gives the lock back."""
        self._held.close()

    def _is_of(self, run_id: str, place: Path | None) -> bool:
        """Says whether something lies in a folder of the run: data/06_models/RUN_ID and the like."""
        if place is None:
            return False
        parts, wanted = (self._data.parent / place).parts[len(self._data.parts) + 1 :], Path(run_id).parts
        return len(parts) > len(wanted) and parts[: len(wanted)] == wanted


class CheckpointHooks:
    """Deletes the state of a training once all that it gave is stored: a disk that refuses then costs no training."""

    def __init__(self) -> None:
        self._checkpoints: Checkpoints | None = None
        self._unsaved: set[str] = set()

    @hook_impl
    def after_node_run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Remembers what is to be stored before the node's training state may go."""
        self._checkpoints, self._unsaved = inputs.get(CHECKPOINTS), set(outputs)

    # After the others have copied or shown what was saved: if one of them fails, the state is still there.
    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Deletes the state after the last output."""
        self._unsaved.discard(dataset_name)
        if self._checkpoints is not None and not self._unsaved:
            self._checkpoints.remove_opened()
            self._checkpoints = None
