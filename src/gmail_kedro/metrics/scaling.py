"""A power law of error over size, fitted to a few points with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE_Z = 1.96  # standard errors on each side of a 95 % interval
SMALLEST_P = 0.05


@dataclass(frozen=True)
class PowerLaw:
    """error = factor * size ** -exponent."""

    factor: float  # error at size 1
    exponent: float  # how fast the error falls; below 0 it rises
    low: float  # lower end of the exponent's 95 % interval
    high: float  # its upper end
    p_value: float  # of a chi-square test that the points lie on the law within their errors

    @property
    def fits(self) -> bool:
        """Whether the points lie on the law within their errors."""
        return self.p_value >= SMALLEST_P

    @property
    def has_trend(self) -> bool:
        """Whether the law fits and its exponent can be told from 0."""
        return self.fits and (self.low > 0 or self.high < 0)


def fit_power_law(sizes: Sequence[float], errors: Sequence[float], deviations: Sequence[float]) -> PowerLaw:
    """Fits the law by weighted least squares.

    Example:
        >>> law = fit_power_law([100, 400, 1600], [40.0, 20.0, 10.0], [1.0, 1.0, 1.0])
        >>> round(law.exponent, 3), law.fits
        (0.5, True)

    Args:
        sizes: What the error falls with, three or more different ones.
        errors: Measured at each size, greater than 0.
        deviations: Standard error of each, greater than 0.

    Raises:
        ValueError: If there are fewer than three sizes, the lengths differ, or a number is not positive.
    """
    from scipy.optimize import curve_fit
    from scipy.stats import chi2

    size, error, deviation = (np.asarray(values, dtype=float) for values in (sizes, errors, deviations))
    if not len(size) == len(error) == len(deviation) or len(np.unique(size)) < 3:
        raise ValueError(
            f"A power law needs errors and deviations at three or more sizes. Got {len(np.unique(size))} sizes, "
            f"{len(error)} errors and {len(deviation)} deviations."
        )
    if not all((values > 0).all() and np.isfinite(values).all() for values in (size, error, deviation)):
        raise ValueError("A power law needs sizes, errors and deviations greater than 0.")
    slope, offset = np.polyfit(np.log(size), np.log(error), 1)  # a start: the law is a line in logarithms
    best, covariance = curve_fit(
        _law, size, error, p0=(np.exp(offset), -slope), sigma=deviation, absolute_sigma=True, maxfev=10_000
    )
    # absolute_sigma above: the deviations are known, not up to a factor that would make any points fit.
    spread = CONFIDENCE_Z * float(np.sqrt(covariance[1, 1]))
    squares = float((((error - _law(size, *best)) / deviation) ** 2).sum())
    exponent = float(best[1])
    return PowerLaw(
        factor=float(best[0]),
        exponent=exponent,
        low=exponent - spread,
        high=exponent + spread,
        p_value=float(chi2.sf(squares, len(size) - 2)),
    )


def _law(size: np.ndarray, factor: float, exponent: float) -> np.ndarray:
    return factor * size**-exponent
