"""Exact ROC and precision-recall metrics of scores, where one score may stand for many samples.

A higher score is more anomalous; anomalous samples are the positives. Every entry carries counts: how many positive
and how many negative samples have its score. A cell of a heatmap stands for many pixels of the original image, some
of them anomalous; `cell_counts` counts them, which is exact and costs no more than the heatmap. Plain labels are the
special case in which the counts are `label` and `1 - label`.

All samples with one score pass a threshold together (ties are one step). Where a class is missing, metrics are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
"""Real or whole numbers of any width."""
CellCounts = npt.NDArray[np.int64]


class Curve(NamedTuple):
    """The points of a curve, in the order of decreasing thresholds.

    Attributes:
        x: (K,) float64, false-positive rate, or recall.
        y: (K,) float64, true-positive rate, or precision.
        threshold: (K,) float64; samples with at least this score count as anomalous. The first is infinite.
    """

    x: FloatArray
    y: FloatArray
    threshold: FloatArray


@dataclass(frozen=True)
class Ranking:
    """Numbers of samples that pass each threshold: scores are sorted once for all metrics.

    Attributes:
        true_positives: (K,) float64, positives with at least the threshold's score; starts at 0.
        false_positives: (K,) float64, negatives with at least the threshold's score; starts at 0.
        threshold: (K,) float64, infinity and then the distinct scores, decreasing.
    """

    true_positives: FloatArray
    false_positives: FloatArray
    threshold: FloatArray

    @property
    def positives(self) -> float:
        return float(self.true_positives[-1])

    @property
    def negatives(self) -> float:
        return float(self.false_positives[-1])

    @property
    def is_defined(self) -> bool:
        return self.positives > 0 and self.negatives > 0

    @cached_property
    def roc(self) -> Curve:
        """The ROC curve from (0, 0) to (1, 1); the rate of a missing class is NaN throughout."""
        x = _share(self.false_positives, self.negatives)
        return Curve(x, _share(self.true_positives, self.positives), self.threshold)

    @cached_property
    def pr(self) -> Curve:
        """Recall and precision, starting at (0, 1); `y` is NaN when a class is missing."""
        passed = self.true_positives + self.false_positives
        precision = np.divide(self.true_positives, passed, out=np.ones_like(passed), where=passed > 0)
        y = precision if self.is_defined else np.full_like(precision, np.nan)
        return Curve(self.roc.y, y, self.threshold)

    def auroc(self) -> float:
        """Return the share of (positive, negative) pairs in the right order; a tie counts half."""
        return area(self.roc.x, self.roc.y)

    def average_precision(self) -> float:
        """Return the sum of precisions, each weighted by the recall gained at its threshold.

        There is no interpolation; `sklearn.metrics.average_precision_score` is defined in the same way.
        """
        return float(np.dot(np.diff(self.pr.x), self.pr.y[1:])) if self.is_defined else np.nan

    def fpr_at_recall(self, recall: float) -> float:
        """Return the least false-positive rate at which at least this share of the positives passes."""
        return float(self.roc.x[np.argmax(self.roc.y >= recall)]) if self.is_defined else np.nan

    def precision_at_recall(self, recall: float) -> float:
        """Return the largest precision of a threshold at which at least this share of the positives passes."""
        return float(self.pr.y[self.roc.y >= recall].max()) if self.is_defined else np.nan

    def f1_max(self) -> float:
        """Return the largest F1 over all thresholds: an oracle metric, since labels choose the threshold."""
        if not self.is_defined:
            return np.nan
        return float(np.max(2 * self.true_positives / (self.true_positives + self.false_positives + self.positives)))


def rank(scores: Numbers, positives: Numbers, negatives: Numbers | None = None) -> Ranking:
    """Sort the scores and count the samples that pass each distinct score.

    Args:
        scores: (n,) finite, in any order. float32 is not widened: 1e7 entries take about a second.
        positives: (n,) counts or weights >= 0 of anomalous samples; or labels 0 and 1 when `negatives` is left out.
        negatives: (n,) counts or weights >= 0 of nominal samples.
    Raises:
        ValueError: shapes differ or are empty, a count is negative, or a score is not finite (training diverged).
    """
    scores, positives = np.asarray(scores), np.asarray(positives)
    negatives = 1 - positives if negatives is None else np.asarray(negatives)
    _check(scores, positives, negatives)
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return Ranking(
        true_positives=_passed(positives[order], last),
        false_positives=_passed(negatives[order], last),
        threshold=np.append(np.inf, ordered[last].astype(np.float64)),
    )


def auroc(scores: Numbers, positives: Numbers, negatives: Numbers | None = None) -> float:
    """Return `Ranking.auroc`; arguments as in `rank`. NaN when a class is missing."""
    return rank(scores, positives, negatives).auroc()


def area(x: FloatArray, y: FloatArray) -> float:
    """Return the area under straight lines between the points; `x` must not decrease."""
    height = y[1:] + y[:-1]
    height /= 2  # in place: fresh memory costs more than the division
    return float(np.dot(np.diff(x), height))


def cell_counts(mask: Numbers, size: int) -> tuple[CellCounts, CellCounts]:
    """Return how many pixels of a ground-truth map, and how many anomalous ones, each cell of a heatmap stands for.

    Enlarging a heatmap to the map's size by nearest neighbor repeats each cell; these are the numbers of
    repetitions. Ranking cells with them gives exactly the pixel metrics of the enlarged heatmap. Pixel row y reads
    cell row `floor(y * size / H)`, columns likewise. When the map is smaller than the heatmap, some cells are read
    by no pixel: their total is 0, and they do not count.

    Args:
        mask: (H, W), non-zero where anomalous; a nominal image has a map of zeros.
        size: side of the square heatmap.
    Returns:
        positive, total: (size, size) int64 each; the negatives are `total - positive`.
    """
    height, width = mask.shape
    row, column = np.arange(height) * size // height, np.arange(width) * size // width
    y, x = np.nonzero(mask)
    positive = np.bincount(row[y] * size + column[x], minlength=size * size).reshape(size, size)
    total = np.outer(np.bincount(row, minlength=size), np.bincount(column, minlength=size))
    return positive.astype(np.int64), total.astype(np.int64)


def _check(scores: Numbers, positives: Numbers, negatives: Numbers) -> None:
    shapes = {"scores": scores.shape, "positives": positives.shape, "negatives": negatives.shape}
    if scores.ndim != 1 or scores.size == 0 or len(set(shapes.values())) > 1:
        raise ValueError(f"scores and counts must be non-empty vectors of one length, but the shapes are {shapes}")
    finite = np.isfinite(scores)
    if not finite.all():
        raise ValueError(f"scores must be finite, but {np.count_nonzero(~finite)} of {scores.size} are not")
    if positives.min() < 0 or negatives.min() < 0:
        raise ValueError("counts must not be negative (labels are 0 and 1)")


def _passed(counts: Numbers, last: npt.NDArray[np.int64]) -> FloatArray:
    # float64 holds whole numbers exactly up to 9e15: more pixels than any test set has.
    return np.append(0.0, np.cumsum(counts, dtype=np.float64)[last])


def _share(passed: FloatArray, total: float) -> FloatArray:
    return passed / total if total > 0 else np.full_like(passed, np.nan)
