"""How many seeds a comparison needs: the power of the paired t-test over seeds (`paired_tests.seed_test`).

Source: Student's noncentral t distribution.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev
from scipy.special import chdtri, nctdtr, nctdtrinc, stdtrit

from fcdd_sweep.metrics.ranking import FloatArray

POWER = 0.8
"""Power that a number of seeds is stated for: a difference of this size is found four times in five."""
MOST_SEEDS = 1000
_TERMS = 24
_LARGE = 1000.0  # a critical value from which the limit is exact to 1e-6


def seed_power(shift: FloatArray | float, degrees: FloatArray | float, alpha: FloatArray | float) -> FloatArray:
    """Return how often a two-sided t-test finds a true difference.

    Args:
        shift: the difference in standard errors of the mean, of either sign.
        degrees: degrees of freedom.
        alpha: the level of the test.
    """
    shift = np.abs(np.asarray(shift, np.float64))
    critical = stdtrit(degrees, 1 - np.asarray(alpha) / 2)
    below, far = (
        np.nan_to_num(nctdtr(degrees, shift, end), nan=0.0) for end in (critical, -critical)
    )  # NaN: underflow
    return np.where(np.isnan(shift + critical), np.nan, 1 - below + far)


def usual_degrees(classes: int, seeds: int) -> float:
    """Return about the degrees of freedom that the test has where all classes have the same noise.

    The test cannot know that they have. With one class they are `seeds - 1`; with more, fewer than that for each class.
    """
    own = seeds - 1
    return (classes * own + 2) * own / (own + 2)


@lru_cache
def _log_shift(alpha: float) -> Chebyshev:
    """Return the logarithm of `detectable_shift` as a polynomial in 1 / degrees.

    It is made once for all pairs of a level: with few degrees of freedom one exact value can take seconds.
    """

    def log_shift(inverse: FloatArray) -> FloatArray:
        degrees = 1 / inverse
        critical = stdtrit(degrees, 1 - alpha / 2)
        exact = nctdtrinc(degrees, 1 - POWER, np.minimum(critical, _LARGE))
        limit = critical * np.sqrt(chdtri(degrees, 1 - POWER) / degrees)  # the mean is known, the spread alone varies
        return np.log(np.where(critical < _LARGE, exact, limit))

    return Chebyshev.interpolate(log_shift, _TERMS, domain=[0, 1])


def detectable_shift(degrees: FloatArray, alpha: float) -> FloatArray:
    """Return the difference, in standard errors of the mean, that is found with a power of `POWER`; NaN for NaN.

    That a difference is found with the wrong sign adds less than 2e-6 to this power, and is left out.

    Args:
        degrees: (P,) degrees of freedom; fewer than one count as one.
        alpha: the level of the test.
    """
    return np.asarray(np.exp(_log_shift(alpha)(1 / np.maximum(degrees, 1.0))), np.float64)


def needed_seeds(shift: FloatArray, degrees: FloatArray, seeds: FloatArray, alpha: float) -> FloatArray:
    """Return the least number of seeds per class with which a difference as large as the one seen is found.

    Differences and spreads that were seen are taken for the true ones: the number is a rough guide.

    Args:
        shift: (P,) differences in standard errors of their means, as seen.
        degrees: (P,) degrees of freedom, as seen.
        seeds: (P,) seeds per class behind them, two or more.
        alpha: the level of the test.
    Returns:
        (P,) whole numbers; NaN where more than `MOST_SEEDS` are needed, or an argument is NaN.
    """

    def found(count: FloatArray) -> npt.NDArray[np.bool_]:
        grown = degrees * (count - 1) / (seeds - 1)
        return np.asarray(np.abs(shift) * np.sqrt(count / seeds) >= detectable_shift(grown, alpha))

    low = np.ones_like(shift)
    high = np.full_like(shift, MOST_SEEDS)
    within = found(high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = found(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(within, high, np.nan)
