"""Power laws: known ones are found again, and what is none makes no claim."""

import numpy as np
import pytest

from gmail_kedro.metrics.scaling import fit_power_law

SIZES = [200, 600, 800, 1500]


def test_a_known_law_is_found_within_its_interval():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        errors = 300 * np.array(SIZES) ** -0.3 + rng.normal(0, 0.5, 4)
        law = fit_power_law(SIZES, errors, [0.5] * 4)
        covered += law.low <= 0.3 <= law.high
    assert 180 <= covered <= 199  # 95 % of 200


def test_a_flat_curve_makes_no_claim():
    law = fit_power_law(SIZES, [40.0, 40.5, 39.6, 40.1], [1.0] * 4)
    assert law.fits and not law.has_trend and law.low < 0 < law.high


def test_a_rising_error_has_a_negative_exponent():
    law = fit_power_law(SIZES, [20.0, 35.0, 40.0, 55.0], [1.0] * 4)
    assert law.has_trend and law.high < 0


def test_what_is_no_power_law_does_not_fit():
    law = fit_power_law(SIZES, [40.0, 20.0, 41.0, 21.0], [0.5] * 4)
    assert not law.fits and not law.has_trend and law.p_value < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1, 1], [1, 1]), "three or more sizes. Got 2 sizes"),
        (([1, 1, 2], [1, 1, 1], [1, 1, 1]), "Got 2 sizes"),
        (([1, 2, 3], [1, 1], [1, 1, 1]), "2 errors"),
        (([1, 2, 3], [1, 0, 1], [1, 1, 1]), "greater than 0"),
        (([1, 2, 3], [1, 1, 1], [1, np.nan, 1]), "greater than 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(*arguments)
