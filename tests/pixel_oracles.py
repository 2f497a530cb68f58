"""Slow, plain versions of the pixel metrics, pixel by pixel and threshold by threshold, from definitions alone."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np


class Picture(NamedTuple):
    """A heatmap at the size of its mask; `mask` numbers the defects where `saturation` is given; group 0 is nominal."""

    heat: np.ndarray
    mask: np.ndarray
    group: int
    saturation: tuple[float, ...] | None = None


def enlarged(heat, size):
    """The (S, S) heatmap repeated to a size: pixel row y reads row floor(y * S / H)."""
    side, (height, width) = len(heat), size
    return np.array([[heat[y * side // height, x * side // width] for x in range(width)] for y in range(height)])


def slow_regions(mask):
    """Boolean masks of the regions, by filling from pixel to pixel; eight neighbors."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        region, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        found.append(np.isin(np.arange(mask.size), [y * mask.shape[1] + x for y, x in region]).reshape(mask.shape))
    return found


def regions_of(picture):
    """(boolean mask, saturation area) of each region, or of each defect that has pixels."""
    if picture.saturation is None:
        return [(region, region.sum()) for region in slow_regions(picture.mask > 0)]
    numbered = ((picture.mask == i + 1, most) for i, most in enumerate(picture.saturation))
    return [(region, min(most, region.sum())) for region, most in numbered if region.any()]


def thresholds_of(pictures):
    return sorted({float(v) for picture in pictures for v in picture.heat.ravel()}, reverse=True)


def curve(pictures, measure):
    """Points (FPR over all defect-free pixels, measure(threshold)) from the highest threshold on, after (0, 0)."""
    free = np.concatenate([p.heat[p.mask == 0] for p in pictures])
    return [(0.0, 0.0), *(((free >= t).mean(), measure(t)) for t in thresholds_of(pictures))]


def area_to(points, limit):
    """Area under straight lines up to `limit` of x, divided by it."""
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        total += (end - x0) * (y0 + y_end) / 2
    return total / limit


def slow_region_overlap(pictures, limit, *, saturated=False):
    regions = [(p.heat, region, most) for p in pictures for region, most in regions_of(p)]

    def mean_share(threshold):
        shares = []
        for heat, region, most in regions:
            hit = np.sum(region & (heat >= threshold))
            shares.append(min(hit / most, 1) if saturated else hit / region.sum())
        return float(np.mean(shares))

    return area_to(curve(pictures, mean_share), limit)


def slow_aupimo(pictures, rates):
    """By picture, as anomalib defines it, with every distinct score as a threshold; None for nominal pictures."""
    low, high = math.log(rates[0]), math.log(rates[1])
    nominal = [p.heat for p in pictures if p.group == 0]
    shared = [np.mean([(heat >= t).mean() for heat in nominal]) for t in thresholds_of(pictures)]
    found = []
    for p in pictures:
        if not (p.mask > 0).any():
            found.append(None)
            continue
        recall = [(p.heat[p.mask > 0] >= t).mean() for t in thresholds_of(pictures)]
        points = [(math.log(f), r) for f, r in zip(shared, recall, strict=True) if f > 0]
        total = 0.0
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            a, b = max(x0, low), min(x1, high)
            if a < b:
                at = [y0 + (y1 - y0) * (x - x0) / (x1 - x0) for x in (a, b)]
                total += (b - a) * sum(at) / 2
        found.append(total / (high - low))
    return found


def slow_counts(pictures):
    """(true, false positives) at every threshold, and the number of anomalous pixels."""
    heat = np.concatenate([p.heat.ravel() for p in pictures])
    truth = np.concatenate([(p.mask > 0).ravel() for p in pictures])
    found = [(np.sum(truth & (heat >= t)), np.sum(~truth & (heat >= t))) for t in thresholds_of(pictures)]
    return found, truth.sum()


def slow_f1_max(pictures):
    counts, positives = slow_counts(pictures)
    return max(2 * true / (true + false + positives) for true, false in counts)


def slow_precision_at_recall(pictures, recall):
    counts, positives = slow_counts(pictures)
    return max(true / (true + false) for true, false in counts if true >= recall * positives)


def slow_image_figures(picture):
    """Share of anomalous pixels, of the hottest pixels that are anomalous, and of heat on anomalous pixels."""
    inside = heat = hottest = hit = 0.0
    for value, anomalous in zip(picture.heat.ravel().tolist(), (picture.mask > 0).ravel().tolist(), strict=True):
        heat += max(value, 0)
        inside += max(value, 0) * anomalous
        if value == picture.heat.max():
            hottest, hit = hottest + 1, hit + anomalous
    return (picture.mask > 0).mean(), hit / hottest, inside / heat
