"""The catalog's way to the mini world's questions."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.corpora.questions import read_mmmu, read_scienceqa
from gmail_kedro.interfaces import Question
from gmail_kedro.mini.question_files import write_mmmu, write_scienceqa
from gmail_kedro.mini.visual_questions import draw_questions

BENCHMARKS: dict[str, Any] = {
    "scienceqa": ("choices", "test", write_scienceqa, read_scienceqa),
    "mmmu": ("open", "validation", write_mmmu, read_mmmu),
}


class MiniQuestionsDataset(AbstractDataset[None, list[Question]]):
    """Questions about scenes of the test handwriting, in a benchmark's own files and through its own reader.

    Example (YAML)::

        scienceqa_questions:
          type: gmail_kedro.datasets.mini_questions.MiniQuestionsDataset
          benchmark: scienceqa
          filepath: data/01_raw/mini_scienceqa
          count: 400

    Args:
        benchmark: Whose files are written: ``scienceqa`` (with choices) or ``mmmu`` (open).
        filepath: The folder of the files; written anew at every load, so it must hold nothing else.
        count: Number of questions.
        seed: Seeds scenes and questions.
        metadata: Ignored; for other tools.

    Raises:
        ValueError: If the benchmark is unknown.
    """

    def __init__(
        self, *, benchmark: str, filepath: str, count: int, seed: int = 0, metadata: dict[str, Any] | None = None
    ) -> None:
        if benchmark not in BENCHMARKS:
            raise ValueError(f"The benchmark {benchmark!r} is unknown. Choose one of {sorted(BENCHMARKS)}.")
        self._benchmark, self._folder, self._count, self._seed = benchmark, Path(filepath), count, seed
        self.metadata = metadata

    def load(self) -> list[Question]:
        """Returns the questions; the same every time."""
        kind, split, write, read = BENCHMARKS[self._benchmark]
        write(self._folder, draw_questions("test", kind=kind, count=self._count, seed=self._seed), split=split)
        return read(self._folder, split=split, check_counts=False)

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
        return {"benchmark": self._benchmark, "filepath": str(self._folder), "count": self._count, "seed": self._seed}
