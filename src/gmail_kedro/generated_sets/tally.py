"""Counts quarantined pictures by reason, and ends a run that would quarantine too many."""

from collections import Counter

from gmail_kedro.generated_sets.quality import Verdict


class QuarantineError(ValueError):
    """Too many pictures were refused; the message has the table of reasons."""


class QuarantineTally:
    """What became of the pictures of a set so far.

    Args:
        limit: Largest share of them that may be quarantined.
        after: Pictures that are judged before the share is watched.
        home: Where the quarantined ones are; for the message.

    Attributes:
        judged_count: Pictures judged so far, those of kept shards included.
        reasons: Quarantined pictures by reason.
    """

    def __init__(self, limit: float, *, after: int, home: str) -> None:
        self._limit, self._after, self._home = limit, after, home
        self.judged_count = 0
        self.reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, key: str, verdict: Verdict) -> None:
        """Counts one picture."""
        self.judged_count += 1
        if verdict.reason:
            self.reasons[verdict.reason] += 1
            self._examples.setdefault(verdict.reason, f"{key}: {verdict.detail}")

    def add_accepted(self, count: int) -> None:
        """Counts pictures that are known to be accepted."""
        self.judged_count += count

    def since(self, before: "QuarantineTally") -> "QuarantineTally":
        """Returns what was counted since a copy was taken."""
        added = QuarantineTally(self._limit, after=self._after, home=self._home)
        added.judged_count = self.judged_count - before.judged_count
        added.reasons = self.reasons - before.reasons
        added._examples = {name: self._examples[name] for name in added.reasons}
        return added

    def merge(self, other: "QuarantineTally") -> None:
        """Counts what another one has counted."""
        self.judged_count += other.judged_count
        self.reasons += other.reasons
        self._examples = other._examples | self._examples

    def check(self, *, is_final: bool = False) -> None:
        """Ends the run if the share is too large, and enough pictures were judged or no more will be.

        Raises:
            QuarantineError: With the count, the share and an example of every reason.
        """
        refused = self.reasons.total()
        if (is_final or self.judged_count >= self._after) and refused > self._limit * self.judged_count:
            rows = "".join(f"\n| {name} | {count} | {self._examples[name]} |" for name, count in self.rows())
            raise QuarantineError(
                f"{refused} of the {self.judged_count} pictures judged so far are quarantined "
                f"({refused / self.judged_count:.1%}); quality.max_quarantined allows {self._limit:.1%}."
                f"\n| reason | pictures | first |\n|---|---|---|{rows}\n"
                f"Look at those of finished shards in {self._home}. Then change the generator's settings, the gate's "
                "thresholds (quality), or the limit. Finished batches are kept: kedro run --pipeline=generation"
            )

    def rows(self) -> list[tuple[str, int]]:
        """Returns the reasons with their counts, the most frequent first."""
        return sorted(self.reasons.items(), key=lambda row: (-row[1], row[0]))
