"""Counts what a reader leaves out and why; nothing is skipped in silence."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

SKIP_LIMIT = 0.001  # a web corpus has some broken rows; one in a thousand is more than a slip of the pen
SHOWN_COUNT = 3


class Skipped:
    """Entries of a corpus that were left out, counted by reason, with the first few by name."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._expected: set[str] = set()

    def add(self, reason: str, example: str, *, count: int = 1) -> None:
        """Counts entries that cannot be used for a reason, given in a few words, and names one of them."""
        if count:
            self._note(reason, [example], count)

    def add_all(self, reason: str, examples: Sequence[object]) -> None:
        """Counts entries that cannot be used, each of them named."""
        if len(examples):
            self._note(reason, list(map(str, examples[:SHOWN_COUNT])), len(examples))

    def allow(self, reason: str) -> None:
        """Takes a reason out of ``check``: the catalog entry asked for it."""
        self._expected.add(reason)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many entries were left out, by reason."""
        return dict(self._counts)

    @property
    def summary(self) -> dict[str, tuple[int, str]]:
        """The count of each reason, with one example."""
        return {reason: (count, self._examples[reason][0]) for reason, count in self._counts.items()}

    def check(self, *, taken: int, limit: float, name: str) -> None:
        """Refuses a corpus of which too much was left out, and logs what was.

        Args:
            taken: Entries that can be used.
            limit: Largest share of all entries that may be left out, in [0, 1].
            name: What the messages call the corpus.

        Raises:
            ValueError: If more was left out, or nothing is left.
        """
        unusable = sum(count for reason, count in self._counts.items() if reason not in self._expected)
        total = taken + unusable
        reasons = "".join(
            f"\n- {reason}: {count} (such as {', '.join(self._examples[reason])})"
            for reason, count in self._counts.most_common()
        )
        if taken == 0:
            raise ValueError(f"The corpus {name!r} has no entry that can be used. Left out:{reasons or ' nothing'}")
        if unusable > limit * total:
            raise ValueError(
                f"{unusable} of the {total} entries of the corpus {name!r} cannot be used ({unusable / total:.2%}); "
                f"its skip_limit allows {limit:.2%}. Mend them, or raise skip_limit in its catalog entry:{reasons}"
            )
        if reasons:
            logger.warning("Corpus %s: entries left out:%s", name, reasons)

    def _note(self, reason: str, examples: list[str], count: int) -> None:
        self._counts[reason] += count
        self._examples[reason] = [*self._examples.get(reason, []), *examples][:SHOWN_COUNT]
