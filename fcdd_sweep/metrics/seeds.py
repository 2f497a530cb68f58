"""Statistics over seeds and classes: a mean never goes without its number of values and its spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95


class Summary(NamedTuple):
    """What several values say together.

    Attributes:
        mean: NaN when there is no value.
        std: sample standard deviation (n - 1); NaN for fewer than two values.
        n: how many values are defined.
        low, high: 95% interval of the mean by Student's t; NaN for fewer than two values.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def summarise(values: Iterable[float]) -> Summary:
    """Mean, spread and interval of the defined values; NaN and None stand for undefined and are not counted in n."""
    given = np.array([np.nan if value is None else value for value in values], np.float64)
    defined = given[~np.isnan(given)]
    n = len(defined)
    mean = float(defined.mean()) if n else np.nan
    if n < 2:
        return Summary(mean, np.nan, n, np.nan, np.nan)
    std = float(defined.std(ddof=1))
    # the quantile of Student's t; scipy.stats gives the same after a second of importing
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / np.sqrt(n)
    return Summary(mean, std, n, mean - half, mean + half)
