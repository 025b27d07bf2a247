"""Figures say what they show."""

import numpy as np
import pytest

from gmail_kedro.reporting.figures import draw_spectra


def test_spectra_are_log_log_curves_without_their_zeros():
    halves = np.array([0.5, 0.25, 0.125, 0.0])
    spectra = {"real": halves, "before": 2 * halves, "after": 3 * halves}
    (axis,) = draw_spectra(spectra, {"real": 1.0, "before": 1.25, "after": 0.5}).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    lines = axis.get_lines()
    assert [line.get_label() for line in lines] == [
        "real (exponent 1.00)",
        "generated, before alignment (exponent 1.25)",
        "generated, after alignment (exponent 0.50)",
    ]
    assert list(lines[1].get_xdata()) == [1, 2, 3]
    assert list(lines[1].get_ydata()) == pytest.approx([1.0, 0.5, 0.25])


def test_a_real_side_that_moved_has_a_curve_of_its_own():
    names = ("real", "real_after", "before", "after")
    spectra = {name: np.array([0.5, 0.25]) for name in names}
    (axis,) = draw_spectra(spectra, dict.fromkeys(names, 1.0)).axes
    assert [line.get_label() for line in axis.get_lines()][1] == "real, after alignment (exponent 1.00)"
