"""Statistics over seeds and classes: a mean never goes without its number of values and its spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from fcdd_sweep.metrics.ranking import FloatArray, Numbers

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


def summarize(values: Iterable[float]) -> Summary:
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


def auroc_standard_error(scores: Numbers, label: Numbers) -> float:
    """Standard error of `ranking.auroc`, where both the nominal and the anomalous images are a sample of many.

    0 for labels that scores separate without a fault: such images have seen no noise, which does not say that there
    is none. Images that belong in pairs, such as anomalies rendered on the nominal images themselves, differ less than
    independent ones: then it is an upper bound.

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
    above = _share_below(anomalous, nominal).var(ddof=1) / len(anomalous)
    below = _share_below(nominal, anomalous).var(ddof=1) / len(nominal)
    return float(np.sqrt(above + below))


def _share_below(values: FloatArray, others: FloatArray) -> FloatArray:
    """Of each value, which share of `others`, sorted, lies below it; a tie counts half."""
    below = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return np.asarray(below / (2 * len(others)))


class PairedDifference(NamedTuple):
    """Differences of pairs.

    Attributes:
        summary: mean, spread, number of pairs, and interval by Student's t, of first minus second.
        p_value: of Wilcoxon's signed-rank test, two-sided; NaN for fewer than two pairs or when none differ.
    """

    summary: Summary
    p_value: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """What the differences `first - second` say; a pair with NaN or None in it is left out.

    Pairs of one class share its data and pairs of one seed its draws, so that they are not quite independent: with few
    classes and seeds the interval is a guide, not a proof.
    """
    one, other = (np.array([np.nan if v is None else v for v in values], np.float64) for values in (first, second))
    difference = one - other
    difference = difference[~np.isnan(difference)]
    p_value = np.nan
    if len(difference) > 1 and difference.any():
        from scipy.stats import wilcoxon  # it takes a second to import

        p_value = float(wilcoxon(difference).pvalue)
    return PairedDifference(summarize(difference), p_value)
