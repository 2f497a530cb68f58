"""Two configs on the same classes and seeds: the difference of their figures, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.seeds import Summary, summarise


class Paired(NamedTuple):
    """Differences of pairs.

    Attributes:
        summary: mean, spread, number of pairs, and interval by Student's t, of first minus second.
        p_value: of Wilcoxon's signed-rank test, two-sided; NaN for fewer than two pairs or when none differ.
    """

    summary: Summary
    p_value: float


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
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
    return Paired(summarise(difference), p_value)
