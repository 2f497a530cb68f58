"""How far an AUROC may be off because other images of the same kinds would have given another one.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); in the form of Sun and Xu, IEEE Signal Processing
Letters 21 (2014), which sorts in place of comparing all pairs.
"""

from __future__ import annotations

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray, Numbers


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
