"""Figures of heatmaps as explanations: by pixels, by regions, and by images; docs/metrics.md defines each.

Where there is nothing to measure, a figure is NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.pixel_order import RankedPositives
from fcdd_sweep.metrics.pixel_truth import DefectRegions, PixelTruth
from fcdd_sweep.metrics.ranking import FloatArray, Numbers

PRO_LIMITS = {"30": 0.3, "05": 0.05}
"""False-positive rates up to which regions are measured, by the end of a column's name."""
PIMO_RATES = (1e-5, 1e-4)
"""Between which rates of nominal pixels the share of a defect that is found counts for AUPIMO."""
RECALL = 0.95
"""Recall at which precision is measured."""
SIZES = {"small": 0.0, "medium": 0.01, "large": 0.05}
"""Defect sizes, and the share of the image's pixels at which each begins."""


class _Levels(NamedTuple):
    """At each distinct score of an anomalous pixel, highest first: pixels with at least it, and a level's own.

    Attributes:
        true, false: (k,) anomalous and defect-free pixels that pass.
        gained: (k,) anomalous pixels of the level.
    """

    true: FloatArray
    false: FloatArray
    gained: FloatArray


def _levels(ranked: RankedPositives) -> _Levels:
    last = np.flatnonzero(np.append(ranked.level[1:] != ranked.level[:-1], True))
    true = np.cumsum(ranked.count)[last]
    return _Levels(true, ranked.upto[last], np.diff(true, prepend=0.0))


def _is_defined(ranked: RankedPositives) -> bool:
    return len(ranked.count) > 0 and ranked.negatives > 0


def average_precision(ranked: RankedPositives) -> float:
    """Return the sum of precisions, each weighted by the recall gained at its threshold."""
    if not _is_defined(ranked):
        return math.nan
    true, false, gained = _levels(ranked)
    return float(np.dot(gained / true[-1], true / (true + false)))


def f1_max(ranked: RankedPositives) -> float:
    """Return the largest F1 over all thresholds: an oracle, since the test set's labels choose the threshold."""
    if not _is_defined(ranked):
        return math.nan
    true, false, _ = _levels(ranked)
    return float(np.max(2 * true / (true + false + true[-1])))


def precision_at_recall(ranked: RankedPositives, recall: float = RECALL) -> float:
    """Return the largest precision of a threshold at which at least this share of the anomalous pixels passes."""
    if not _is_defined(ranked):
        return math.nan
    true, false, _ = _levels(ranked)
    enough = true >= recall * true[-1]
    return float(np.max(true[enough] / (true + false)[enough]))


def f1_at(passed: tuple[float, float], positives: float) -> float:
    """Return the F1 of anomalous and defect-free pixels that pass a threshold."""
    return 2 * passed[0] / (sum(passed) + positives) if positives else math.nan


def region_overlap(ranked: RankedPositives, limit: float, *, saturated: bool = False) -> float:
    """Return the area under the mean share of a region that is found, up to a false-positive rate (AUPRO, sPRO).

    The rate is over all defect-free pixels of all images; between thresholds the curve is a straight line; the area is
    divided by the limit. `saturated`: a region counts as found when its saturation area is (sPRO).

    Source: Bergmann et al., IJCV 129 (2021); sPRO: IJCV 130 (2022).
    """
    regions = ranked.regions
    if not _is_defined(ranked) or not len(regions.area):
        return math.nan
    most = limit * ranked.negatives
    # Where the pixels of a tie pass one by one, a straight line: from `above` to `upto`, cut off at the limit.
    part = np.clip(np.minimum(ranked.upto, most) - ranked.above, 0, None)
    area = np.clip(most - ranked.upto, 0, None) + part**2 / (2 * np.maximum(ranked.upto - ranked.above, 1))
    share = _saturated_shares(regions) if saturated else regions.count / regions.area[regions.region]
    return float(np.dot(share, area[regions.element])) / (most * len(regions.area))


def _saturated_shares(regions: DefectRegions) -> FloatArray:
    """Return what each element adds to the share of its region that is found, as its elements pass by score."""
    order = np.lexsort((regions.element, regions.region))
    region, count = regions.region[order], regions.count[order]
    total = np.cumsum(count)
    starts = np.flatnonzero(np.append(True, region[1:] != region[:-1]))
    before = np.repeat(total[starts] - count[starts], np.diff(np.append(starts, len(region))))
    most = regions.saturation[region]
    share = (np.minimum(total - before, most) - np.minimum(total - before - count, most)) / most
    found = np.empty(len(order))
    found[order] = share
    return found


def image_overlap(ranked: RankedPositives, images: int, rates: tuple[float, float] = PIMO_RATES) -> FloatArray:
    """Return the AUPIMO of each image, (images,): the mean share of its anomalous pixels that is found over the
    logarithm of the false-positive rate on nominal images, between two rates.

    The rate is the mean over nominal images of the share of their pixels that passes; between thresholds the curve is
    a straight line over the rate's logarithm. NaN for images without anomalous pixels, and for all where the first
    nominal pixels that pass are already more than the lower rate: there are too few, and nothing can be said.

    Source: Bertoldo et al., arXiv 2401.01984; the integral is that of anomalib over all distinct scores as thresholds.
    """
    low, high = np.log(rates)
    pixels = np.bincount(ranked.image, ranked.count, minlength=images)
    if ranked.rate_above is None or ranked.rate_upto is None or not ranked.least_rate <= rates[0]:
        return np.full(images, np.nan)
    with np.errstate(divide="ignore"):
        start, end = np.log(ranked.rate_above), np.log(ranked.rate_upto)
    # Before the first nominal pixel the logarithm is -inf; whatever happens there is below the lower rate.
    end = np.where(np.isfinite(end), end, low)
    start = np.where(np.isfinite(start), start, end)
    found = _ramp(high, start, end) - _ramp(low, start, end)
    area = np.bincount(ranked.image, ranked.count * found, minlength=images)
    share = np.divide(area, pixels * (high - low), out=np.full(images, np.nan), where=pixels > 0)
    return np.minimum(share, 1.0)  # rounding


def _ramp(x: float, start: FloatArray, end: FloatArray) -> FloatArray:
    """Return the area up to `x` under lines that rise from 0 at `start` to 1 at `end` and stay there."""
    inside = np.clip(x - start, 0, end - start)
    width = end - start
    return np.clip(x - end, 0, None) + np.divide(inside**2, 2 * width, out=np.zeros_like(width), where=width > 0)


class ImageFigures(NamedTuple):
    """Of each image; NaN where it has no anomalous pixels.

    Attributes:
        defect_share: (P,) share of its pixels that are anomalous.
        pointing_hit: (P,) whether the largest value of the heatmap is on the defect; where several pixels have it, the
            share of them.
        heat_in_mask: (P,) share of the sum of the heatmap that is on the defect; negative values count as 0.
    """

    defect_share: FloatArray
    pointing_hit: FloatArray
    heat_in_mask: FloatArray


def image_figures(heat: Numbers, truth: PixelTruth) -> ImageFigures:
    """Return where the heat of each image is.

    Args:
        heat: (P, cells).
        truth: of the same images.
    """
    shown = np.flatnonzero(truth.positive.any(1))
    found = ImageFigures(*(np.full(len(heat), np.nan) for _ in ImageFigures._fields))
    for i in shown:
        positive, total = truth.positive[i], truth.positive[i] + truth.negative[i]
        read = np.where(total > 0, heat[i], -np.inf)  # a cell that no pixel reads is not in the heatmap
        largest = read == read.max()
        warm = np.maximum(heat[i], 0).astype(np.float64)
        sum_ = float(warm @ total)
        found.defect_share[i] = positive.sum() / total.sum()
        found.pointing_hit[i] = positive[largest].sum() / total[largest].sum()
        found.heat_in_mask[i] = float(warm @ positive) / sum_ if sum_ > 0 else np.nan
    return found


def size_of(share: float) -> str:
    """Return the size of a defect with this share of the image's pixels, one of `SIZES`."""
    return [name for name, least in SIZES.items() if share >= least][-1]
