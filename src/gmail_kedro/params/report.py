"""Which tables and runs the figures of the reproduction's report are drawn from."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class ReportParams(Parameters):
    """Which tables and runs the figures of the reproduction's report are drawn from.

    Attributes:
        gap_table: Table whose rows the charts of the gap show.
        scaling_table: Table whose rows differ in the size of their generated sets.
        scaling_columns: Its columns that are drawn.
        cost_table: Table of what training took.
        figure_runs: Runs whose planes and training curves are shown, by name.
    """

    gap_table: int
    scaling_table: int
    scaling_columns: list[str]
    cost_table: int
    figure_runs: list[str]

    GROUP: ClassVar[str] = "report"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="gap_table scaling_table cost_table", not_empty="scaling_columns figure_runs"
    )
