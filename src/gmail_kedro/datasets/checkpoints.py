"""The resumable state of a run's trainings."""

from gmail_kedro.datasets.folder import FolderDataset
from gmail_kedro.engine.checkpoint import Checkpoints


class CheckpointsDataset(FolderDataset):
    """Gives a node the checkpoints of its run; ``CheckpointHooks`` deletes them once the node's outputs are stored.

    Example (YAML)::

        checkpoints:
          type: gmail_kedro.datasets.checkpoints.CheckpointsDataset
          filepath: data/06_models/main/checkpoints
    """

    def load(self) -> Checkpoints:  # type: ignore[override]
        """Returns the checkpoints; their folder exists afterwards."""
        return Checkpoints(super().load())
