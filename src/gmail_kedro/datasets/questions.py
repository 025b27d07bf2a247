"""The catalog's way to the questions of ScienceQA and MMMU."""

from pathlib import Path
from typing import Any

from gmail_kedro.corpora.question_sets import read_mmmu, read_scienceqa
from gmail_kedro.datasets.read_only import ReadOnlyDataset
from gmail_kedro.interfaces import Question

READERS: dict[str, Any] = {"scienceqa": read_scienceqa, "mmmu": read_mmmu}


class QuestionsDataset(ReadOnlyDataset[list[Question]]):
    """The questions of a benchmark with their images, read-only.

    Example (YAML)::

        scienceqa_questions:
          type: gmail_kedro.datasets.questions.QuestionsDataset
          benchmark: scienceqa
          filepath: data/01_raw/scienceqa
          split: test

    Args:
        benchmark: ``scienceqa`` (its questions with an image) or ``mmmu``.
        filepath: The folder of its files.
        split: The benchmark's own name of the split.
        check_counts: Hold it to the published number of questions.
        metadata: Ignored; for other tools.
    """

    def __init__(
        self,
        *,
        benchmark: str,
        filepath: str,
        split: str,
        check_counts: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if benchmark not in READERS:
            raise ValueError(f"The benchmark {benchmark!r} is unknown. Choose one of {sorted(READERS)}.")
        self._benchmark, self._folder, self._split = benchmark, Path(filepath), split
        self._check_counts = check_counts
        self.metadata = metadata

    def load(self) -> list[Question]:
        """Returns the questions."""
        return READERS[self._benchmark](self._folder, split=self._split, check_counts=self._check_counts)

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"benchmark": self._benchmark, "filepath": str(self._folder), "split": self._split}
