"""Which tables and runs the figures of the reproduction's report are drawn from."""

from typing import ClassVar

from pydantic import PositiveInt

from gmail_kedro.params.base import Parameters, Texts


class ReportParams(Parameters):
    """Tables by their numbers in ``tables.yml``, runs by their names in ``experiments.yml``."""

    GROUP: ClassVar[str] = "report"

    gap_table: PositiveInt  # its rows are shown by the charts of the gap
    scaling_table: PositiveInt  # its rows differ in the size of their generated sets
    scaling_columns: Texts  # the columns of it that are drawn
    cost_table: PositiveInt  # of what training took
    figure_runs: Texts  # whose planes and training curves are shown
