"""An effect holds when the whole interval of our difference lies on the paper's side of zero."""

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.reporting.verdicts import (
    BLOCKED,
    CONTRARY,
    EVERY,
    HOLDS,
    NO_CLAIM,
    NONE,
    NOT_SHOWN,
    OPPOSITE,
    SOME,
    UNRUN,
    count_verdicts,
    findings,
    headline,
    verdict,
    with_verdicts,
)

from .reproductions import cell, result_table


@pytest.mark.parametrize(
    ("paper", "low", "high", "expected"),
    [
        (5.0, 0.1, 2.0, HOLDS),
        (5.0, -0.1, 2.0, NOT_SHOWN),
        (5.0, 0.0, 2.0, NOT_SHOWN),
        (5.0, -2.0, -0.1, OPPOSITE),
        (-5.0, -2.0, -0.1, HOLDS),  # fewer steps, as in the paper
        (-5.0, 0.1, 2.0, OPPOSITE),
        (5.0, np.nan, np.nan, NOT_SHOWN),  # one number on each side shows nothing
        (0.0, 0.1, 2.0, NO_CLAIM),
        (np.nan, 0.1, 2.0, NO_CLAIM),
    ],
)
def test_a_verdict_is_the_side_of_zero_the_interval_lies_on(paper: float, low: float, high: float, expected: str):
    assert verdict(status="run", paper_effect=paper, low=low, high=high) == expected


def test_what_did_not_run_is_blocked_and_not_judged():
    assert verdict(status="blocked", paper_effect=3.0, low=np.nan, high=np.nan) == BLOCKED
    assert verdict(status="blocked", paper_effect=np.nan, low=np.nan, high=np.nan) == NO_CLAIM


def test_a_wrong_status_and_an_interval_upside_down_are_refused():
    with pytest.raises(ValueError, match="'run' or 'blocked'. Got 'done'"):
        verdict(status="done", paper_effect=1.0, low=0.1, high=0.2)
    with pytest.raises(ValueError, match="must go up. Got 2.0 to 1.0"):
        verdict(status="run", paper_effect=1.0, low=2.0, high=1.0)


def test_a_comparison_names_its_measures_by_verdict():
    first, cost = findings(result_table())
    assert (first.table, first.row, first.against) == (1, "ClipCap + GMAIL", "ClipCap")
    assert first.columns == (("bleu_4", NOT_SHOWN), ("cider", HOLDS), ("spice", BLOCKED))
    assert first.outcome == SOME and cost.outcome == CONTRARY


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ([{}, {}], EVERY),
        ([{}, {"status": "blocked", "reason": "no file"}], EVERY),
        ([{}, {"effect_low": -1.0}], SOME),
        ([{"effect_low": -1.0}, {"effect_low": -2.0}], NONE),
        ([{}, {"effect_low": -2.0, "effect_high": -1.0}], CONTRARY),
        ([{"status": "blocked"}, {"status": "blocked"}], UNRUN),
    ],
)
def test_the_outcome_of_a_comparison(changes: list[dict[str, object]], outcome: str):
    cells = [cell(column=f"measure_{place}", **change) for place, change in enumerate(changes)]
    (finding,) = findings(pd.DataFrame(cells))
    assert finding.outcome == outcome


def test_the_headline_counts_every_effect_once():
    counts = count_verdicts(findings(result_table()))
    assert counts == {HOLDS: 1, NOT_SHOWN: 1, OPPOSITE: 2, BLOCKED: 1}
    text = headline(counts)
    assert "Of the 5 differences the paper reports, 1 holds" in text and "2 point the other way" in text
    assert "1 could not be measured" in text
    assert headline(dict.fromkeys(counts, 0)) == "The tables hold no effect that the paper claims."


def test_tables_of_our_own_get_no_verdict():
    own = with_verdicts(result_table()).query("table > 100")
    assert len(own) and set(own["verdict"]) == {NO_CLAIM}
