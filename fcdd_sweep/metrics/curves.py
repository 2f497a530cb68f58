"""Curves for storage and for averages over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import Curve, FloatArray, area

AREA_TOLERANCE = 1e-4
"""Largest difference between the area under a thinned curve and the area under the full one."""
RATES = np.linspace(0.0, 1.0, 1001)
"""The false-positive rates at which curves are averaged."""


class MeanCurve(NamedTuple):
    """The mean of ROC curves at equal false-positive rate.

    Attributes:
        x: (K,) float64, false-positive rate, from 0 to 1.
        mean: (K,) float64, mean true-positive rate, from 0 to 1.
        std: (K,) float64, sample standard deviation; NaN for a single curve.
        n: number of curves.
    """

    x: FloatArray
    mean: FloatArray
    std: FloatArray
    n: int


def thin_curve(x: FloatArray, y: FloatArray, threshold: FloatArray, points: int = 1000) -> Curve:
    """Return a curve with about `points` points or fewer, for storage; the same input gives the same points.

    End points stay, and points in the middle of a horizontal or vertical line go. If too many are left, the points on
    both sides of equal steps along the curve stay, so that both corners of every long step are kept. The area under
    straight lines stays within `AREA_TOLERANCE`: a curve for which `points` are too few keeps more. For a
    precision-recall curve this area is not the average precision: compute that before thinning.

    Args:
        x, y, threshold: (K,) as in `Curve`; a curve with NaN is cut down to its two end points.
    """
    whole = Curve(np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(threshold, np.float64))
    if not np.isfinite(whole.x + whole.y).all():
        return _at(whole, np.unique([0, len(whole.x) - 1]))
    corners = _at(whole, _corners(whole.x, whole.y))
    target = area(whole.x, whole.y)
    while len(corners.x) > points:
        thin = _at(corners, _beside_equal_steps(corners.x, corners.y, points // 2))
        if abs(area(thin.x, thin.y) - target) <= AREA_TOLERANCE:
            return thin
        points *= 2
    return corners


def true_positive_rate_at(x: FloatArray, y: FloatArray, rates: FloatArray) -> FloatArray:
    """Return a ROC curve's true-positive rate at `rates`; where the curve rises vertically, the upper value.

    Args:
        x, y: (K,) not decreasing.
        rates: (R,) in 0..1.
    """
    # searching from the right finds the last of equal x, which on a rising curve is the upper end of the jump
    left = np.clip(np.searchsorted(x, rates, side="right") - 1, 0, len(x) - 1)
    right = np.minimum(left + 1, len(x) - 1)
    width = x[right] - x[left]
    part = np.divide(rates - x[left], width, out=np.zeros_like(rates), where=width > 0)
    return np.asarray(y[left] + part * (y[right] - y[left]))


def mean_curve(curves: Sequence[tuple[FloatArray, FloatArray]], grid: FloatArray = RATES) -> MeanCurve:
    """Average ROC curves vertically, at equal false-positive rate; starts at (0, 0) and ends at (1, 1).

    The mean area under several ROC curves is the mean of their own areas; do not take it from this curve.

    Args:
        curves: (x, y) each; at least one, and none with NaN (a class is missing).
        grid: (R,) rates from 0 to 1.
    Raises:
        ValueError: there is no curve.
    Source: vertical averaging, Fawcett, Pattern Recognition Letters 27 (2006), Sec. 8.1.
    """
    if not curves:
        raise ValueError("a mean needs at least one curve")
    # A curve begins at (0, 0), but at rate 0 its upper value counts: the mean keeps both points.
    values = np.stack([np.append(0.0, true_positive_rate_at(x, y, grid)) for x, y in curves])
    std = values.std(axis=0, ddof=1) if len(curves) > 1 else np.full(values.shape[1], np.nan)
    return MeanCurve(np.append(0.0, grid), values.mean(axis=0), std, len(curves))


def _at(curve: Curve, index: npt.NDArray[np.int64]) -> Curve:
    return Curve(curve.x[index], curve.y[index], curve.threshold[index])


def _corners(x: FloatArray, y: FloatArray) -> npt.NDArray[np.int64]:
    dx, dy = np.diff(x) == 0, np.diff(y) == 0
    straight = (dx[1:] & dx[:-1]) | (dy[1:] & dy[:-1])
    return np.flatnonzero(np.concatenate([[True], ~straight, [True]])) if len(x) > 1 else np.arange(len(x))


def _beside_equal_steps(x: FloatArray, y: FloatArray, steps: int) -> npt.NDArray[np.int64]:
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    after = np.searchsorted(along, np.linspace(0.0, along[-1], max(steps, 2))).clip(1, len(x) - 1)
    return np.unique(np.concatenate([[0], after - 1, after, [len(x) - 1]]))
