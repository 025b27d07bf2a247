"""Charts say what they show, refuse what they cannot, and fit into a page that has others."""

import re

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.reporting.charts import as_svg, draw_cost, draw_curves, draw_gap, draw_scaling

GAPS = {
    "none": {"scores": {"probe_auc_before": 0.9, "probe_auc_after": 0.9}},
    "ours": {
        "scores": {"probe_auc_before": 0.9, "probe_auc_after": 0.6},
        "intervals": {"probe_auc_after": {"low": 0.55, "high": 0.66}},
    },
    "unmeasured": {"scores": {}},
}


def test_the_gap_shows_before_after_and_the_interval_and_leaves_out_what_was_not_measured():
    (axis,) = draw_gap(GAPS, "probe_auc", "AUC").axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["none", "ours"]
    assert [list(line.get_xdata()) for line in axis.get_lines()] == [[0.9, 0.9], [0.9, 0.6], [0.55, 0.66]]
    with pytest.raises(ValueError, match="No run has the measure 'knn_mixing'"):
        draw_gap(GAPS, "knn_mixing", "mixing")


def test_the_fitted_law_is_drawn_where_there_is_one():
    sizes = np.array([100, 400, 1600])
    scores = 100 - 120 * sizes**-0.125
    points = pd.DataFrame({"generated_image_count": sizes, "ours": scores, "low": np.nan, "high": np.nan})
    law = {"claim": "a law", "factor": 120.0, "exponent": 0.125}
    (axis,) = draw_scaling(points.sample(frac=1, random_state=0), law, "R@1").axes
    measured, curve = axis.get_lines()
    assert curve.get_label() == "100 − 120 · images^−0.125"
    assert list(measured.get_xdata()) == list(sizes) and curve.get_ydata()[-1] == pytest.approx(scores[-1])
    (axis,) = draw_scaling(points, {"claim": "no law"}, "R@1").axes
    assert [line.get_label() for line in axis.get_lines()] == ["measured"]
    with pytest.raises(ValueError, match=r"two set sizes or more. Got \[100"):
        draw_scaling(points[:1], law, "R@1")


def test_costs_are_relative_to_the_first_row_and_a_missing_one_is_no_number():
    (axis,) = draw_cost(["first", "second"], [2.0, np.nan], [8.0, 12.0], "time").axes
    assert [text.get_text() for text in axis.texts] == ["1.00×", "not measured", "1.00×", "1.50×"]
    with pytest.raises(ValueError, match="'first' was not measured"):
        draw_cost(["first", "second"], [np.nan, 1.0], [np.nan, 1.0], "time")


def test_curves_are_drawn_over_steps():
    history = pd.DataFrame({"step": range(40), "loss": np.linspace(2, 1, 40)})
    (axis,) = draw_curves({"frozen": history, "gmail": history}, "loss").axes
    assert [line.get_label() for line in axis.get_lines() if not line.get_label().startswith("_")] == [
        "frozen",
        "gmail",
    ]
    with pytest.raises(ValueError, match="no training history"):
        draw_curves({}, "loss")


def test_an_svg_stands_in_a_page_beside_others_and_takes_its_ink():
    first, second = (as_svg(draw_gap(GAPS, "probe_auc", "AUC"), name, title='a "gap"') for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r"url\(#([^)]+)\)", first)) | set(re.findall(r'href="#([^"]+)"', first))
    assert used and used <= ids[0]
    assert "currentColor" in first and "<style" not in first and 'aria-label="a &quot;gap&quot;"' in first
    assert re.findall(r"https?://[^\"' ]+", first) == ["http://www.w3.org/2000/svg"]
    assert first == as_svg(draw_gap(GAPS, "probe_auc", "AUC"), "one", title='a "gap"')
