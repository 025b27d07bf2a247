"""The catalog's way to the mini world's questions."""

from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.interfaces import Question
from gmail_kedro.mini.visual_questions import draw_questions


class MiniQuestionsDataset(AbstractDataset[None, list[Question]]):
    """Questions about scenes of one split, drawn when they are loaded; nothing lies on disk.

    Example (YAML)::

        scienceqa_questions:
          type: gmail_kedro.datasets.mini_questions.MiniQuestionsDataset
          kind: choices
          count: 400

    Args:
        kind: ``choices`` or ``open``.
        count: Number of questions.
        split: Whose handwriting the scenes show.
        seed: Seeds scenes and questions.
        metadata: Ignored; for other tools.
    """

    def __init__(
        self, *, kind: str, count: int, split: str = "test", seed: int = 0, metadata: dict[str, Any] | None = None
    ) -> None:
        self._kind, self._count, self._split, self._seed = kind, count, split, seed
        self.metadata = metadata

    def load(self) -> list[Question]:
        """Returns the questions; the same every time."""
        return draw_questions(self._split, kind=self._kind, count=self._count, seed=self._seed)

    def save(self, data: None) -> None:
        """Refuses: the questions follow from the seed.

        Args:
            data: Anything.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("The mini world's questions follow from their seed; nothing can be saved to them.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._kind, "count": self._count, "split": self._split, "seed": self._seed}
