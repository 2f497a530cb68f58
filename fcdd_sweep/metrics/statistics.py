"""Statistics over seeds and classes: every mean comes with its number of values and its spread."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray, Numbers

LEVEL = 0.95
"""Confidence level of all intervals."""
ALPHA = 0.05
"""`1 - LEVEL`: a p-value, corrected for the number of comparisons, that is below it decides."""


class Summary(NamedTuple):
    """Mean, spread and interval of several values.

    Attributes:
        mean: NaN when there is no value.
        std: sample standard deviation (n - 1); NaN for fewer than two values.
        n: number of defined values.
        low, high: 95% interval of the mean by Student's t; NaN for fewer than two values.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def summarize(values: Iterable[float]) -> Summary:
    """Return mean, spread and interval of the defined values; NaN and None are undefined and not counted in n."""
    given = np.array([np.nan if value is None else value for value in values], np.float64)
    defined = given[~np.isnan(given)]
    n = len(defined)
    mean = float(defined.mean()) if n else np.nan
    if n < 2:
        return Summary(mean, np.nan, n, np.nan, np.nan)
    std = float(defined.std(ddof=1))
    from scipy.special import stdtrit  # slow to import, and planning does not need it

    # the quantile of Student's t; scipy.stats returns the same, but takes a second to import
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / np.sqrt(n)
    return Summary(mean, std, n, mean - half, mean + half)


def wilson_interval(count: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of which `count` in `n` were seen; n is at least 1.

    Unlike the normal approximation it has a width where none or all were seen.

    Source: Wilson, JASA 22 (1927).
    """
    from scipy.special import ndtri

    z, share = float(ndtri((1 + LEVEL) / 2)), count / n
    middle, scale = share + z**2 / (2 * n), 1 + z**2 / n
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if count == 0 else (middle - half) / scale  # exactly, where rounding would leave 1e-17
    high = 1.0 if count == n else (middle + half) / scale
    return float(low), float(high)


def auroc_standard_error(scores: Numbers, label: Numbers) -> float:
    """Return the standard error of `ranking.auroc`, with nominal and anomalous images as samples of larger populations.

    It is 0 where the scores separate the labels perfectly: no noise was observed, which does not prove that there is
    none. For paired images, such as anomalies rendered on the nominal images themselves, it is an upper bound.

    Source: DeLong et al., Biometrics 44 (1988).

    Args:
        scores: (n,) finite; higher is more anomalous.
        label: (n,) 0 nominal, 1 anomalous.
    Returns:
        NaN with fewer than two images of a label.
    """
    scores, label = np.asarray(scores, np.float64), np.asarray(label)
    nominal, anomalous = np.sort(scores[label == 0]), np.sort(scores[label == 1])
    if min(len(nominal), len(anomalous)) < 2:
        return np.nan
    above = share_below(anomalous, nominal).var(ddof=1) / len(anomalous)
    below = share_below(nominal, anomalous).var(ddof=1) / len(nominal)
    return float(np.sqrt(above + below))


def share_below(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return for each value the share of `others`, sorted, below it; a tie counts half."""
    below = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return np.asarray(below / (2 * len(others)))


def exact_fraction(rate: float) -> Fraction:
    """Return a rate as it is written: 0.05 as a float is a little more than a twentieth, and 20 * 0.95 rounds."""
    return Fraction(repr(rate))


def share_text(rate: float) -> str:
    """Return `1 in 20` for 0.05, and `7%` for a rate that is no whole part."""
    inverse = 1 / exact_fraction(rate)
    return f"1 in {inverse}" if inverse.denominator == 1 else percent_text(rate)


def percent_text(rate: float) -> str:
    """Return `5%` for 0.05."""
    return f"{100 * rate:.4g}%"
