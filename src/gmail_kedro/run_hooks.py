"""What guards the work of a run: its student's set, and its training state until its results are stored."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

if TYPE_CHECKING:
    from gmail_kedro.engine.checkpoint import Checkpoints

ADAPTER, CHECKPOINTS, GENERATED_IMAGES = "adapter", "checkpoints", "generated_images"


class StudentHooks:
    """Refuses a generated set beside a student of another one before the first node runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Compares the set with what the student says, where the pipeline finds both on disk."""
        from gmail_kedro.zoo.student import refuse_other_set

        if {ADAPTER, GENERATED_IMAGES} <= pipeline.inputs():
            refuse_other_set(catalog[ADAPTER].load(), catalog[GENERATED_IMAGES].load().identity)


class CheckpointHooks:
    """Deletes the state of a training once all that it gave is stored: a disk that refuses then costs no training."""

    def __init__(self) -> None:
        self._checkpoints: Checkpoints | None = None
        self._unsaved: set[str] = set()

    @hook_impl
    def after_node_run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Remembers what is to be stored before the node's training state may go."""
        self._checkpoints, self._unsaved = inputs.get(CHECKPOINTS), set(outputs)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Deletes the state after the last output."""
        self._unsaved.discard(dataset_name)
        if self._checkpoints is not None and not self._unsaved:
            self._checkpoints.remove_opened()
            self._checkpoints = None
