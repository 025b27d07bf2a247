"""Which of the paper's effects a reproduction shows: by cell, by comparison, and in a sentence.

An effect is the difference between a row and the row it is compared with. The paper claims one wherever it prints both
numbers and they differ. It holds here when the whole interval of our difference lies on the paper's side of zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

HOLDS, NOT_SHOWN, OPPOSITE, BLOCKED = "holds", "not shown", "opposite", "blocked"
VERDICTS = (HOLDS, NOT_SHOWN, OPPOSITE, BLOCKED)
NO_CLAIM = ""  # the paper prints no difference here
EVERY, SOME, NONE, CONTRARY, UNRUN = "every", "some", "none", "contrary", "unrun"


@dataclass(frozen=True)
class Finding:
    """What became of one comparison of a table."""

    table: int
    title: str
    row: str
    against: str
    # Each measure with its verdict, in the table's order; only those the paper makes a claim for.
    columns: tuple[tuple[str, str], ...]

    @property
    def outcome(self) -> str:
        """Returns ``every``, ``some`` or ``none`` of the measures hold; ``contrary``: one is opposite; ``unrun``."""
        reached = [verdict for _, verdict in self.columns if verdict != BLOCKED]
        if not reached:
            return UNRUN
        if OPPOSITE in reached:  # one measure against the paper weighs more than others for it
            return CONTRARY
        if HOLDS not in reached:
            return NONE
        return EVERY if set(reached) == {HOLDS} else SOME


def verdict(*, status: str, paper_effect: float, low: float, high: float) -> str:
    """Returns what is to be said of one cell.

    Args:
        status: ``run`` or ``blocked``.
        paper_effect: The paper's difference between the two rows; NaN where it prints none.
        low: Lower end of the interval of our difference; NaN where there is none.
        high: Upper end.

    Returns:
        ``holds``, ``opposite`` (the interval lies on the other side of zero), ``not shown`` (it includes zero, or
        there is none), ``blocked``; empty where the paper claims no difference.

    Raises:
        ValueError: If the status is neither of the two, or the interval is upside down.

    Example:
        >>> verdict(status="run", paper_effect=-2.0, low=-0.9, high=-0.1)
        'holds'
    """
    if status not in ("run", "blocked"):
        raise ValueError(f"The status of a cell must be 'run' or 'blocked'. Got {status!r} instead.")
    if low > high:
        raise ValueError(f"The interval of an effect must go up. Got {low} to {high} instead.")
    if not np.isfinite(paper_effect) or paper_effect == 0:
        return NO_CLAIM
    if status == "blocked":
        return BLOCKED
    side = 1 if low > 0 else -1 if high < 0 else 0  # NaN is on neither: no interval shows nothing
    return {0: NOT_SHOWN, np.sign(paper_effect): HOLDS}.get(side, OPPOSITE)


def with_verdicts(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns the tables' cells with a column ``verdict``."""
    reached = [
        verdict(status=cell.status, paper_effect=cell.paper_effect, low=cell.effect_low, high=cell.effect_high)
        for cell in cells.itertuples()
    ]
    return cells.assign(verdict=reached)


def findings(cells: pd.DataFrame) -> list[Finding]:
    """Returns every comparison for which the paper claims an effect, in the order of the tables."""
    claimed = with_verdicts(cells).query("verdict != @NO_CLAIM")
    return [
        Finding(
            table=int(table),
            title=members["title"].iloc[0],
            row=row,
            against=members["against"].iloc[0],
            columns=tuple(zip(members["column"], members["verdict"], strict=True)),
        )
        for (table, row), members in claimed.groupby(["table", "row"], sort=False)
    ]


def count_verdicts(found: Sequence[Finding]) -> dict[str, int]:
    """Returns how many of the paper's effects got each verdict."""
    reached = [verdict for finding in found for _, verdict in finding.columns]
    return {name: reached.count(name) for name in VERDICTS}


def headline(counts: dict[str, int]) -> str:
    """Returns the outcome of the whole reproduction in plain words.

    Args:
        counts: As ``count_verdicts`` returns them.
    """
    total = sum(counts.values())
    if not total:
        return "The tables hold no effect that the paper claims."
    parts = [
        f"Of the {total} differences the paper reports, {_many(counts[HOLDS], 'holds', 'hold')} here: the whole 95 % "
        "interval of our difference lies on the paper's side of zero.",
        f"{_many(counts[NOT_SHOWN], 'is', 'are')} not shown: our interval includes zero, or there is no interval.",
        f"{_many(counts[OPPOSITE], 'points', 'point')} the other way.",
        f"{counts[BLOCKED]} could not be measured." if counts[BLOCKED] else "Nothing was left unmeasured.",
    ]
    return " ".join(parts)


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
