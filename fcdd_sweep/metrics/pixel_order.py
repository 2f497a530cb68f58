"""Anomalous pixels in the order of their scores, and how many defect-free pixels are above each: sorted once.

Every pixel metric follows from these counts. Ties are exact: all pixels with one score pass a threshold together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.pixel_truth import DefectRegions, FullTruth, Indices, PixelTruth
from fcdd_sweep.metrics.ranking import FloatArray, Numbers, Ranking, rank

Keys = npt.NDArray[np.uint32]
_FEW_CELLS = 1 << 21
_SIGN, _ALL = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class RankedPositives:
    """Elements with anomalous pixels (cells of a heatmap, or pixels), highest score first.

    Attributes:
        count: (p,) float64, anomalous pixels of the element.
        image: (p,) which image.
        level: (p,) equal for equal scores, increasing.
        above, upto: (p,) float64, defect-free pixels of all images with a higher score, and with at least this one.
        negatives: defect-free pixels of all images.
        rate_above, rate_upto: (p,) the same as mean over nominal images of their shares; NaN without nominal images,
            None for one defect type.
        least_rate: smallest such share above 0.
        find_regions: returns `regions`.
    """

    count: FloatArray
    image: Indices
    level: Indices
    above: FloatArray
    upto: FloatArray
    negatives: float
    rate_above: FloatArray | None
    rate_upto: FloatArray | None
    least_rate: float
    find_regions: Callable[[], DefectRegions]

    @cached_property
    def regions(self) -> DefectRegions:
        """Their elements are positions in the arrays; found on first use."""
        return self.find_regions()


def pair_share(ranked: RankedPositives) -> float:
    """Return the share of (anomalous, defect-free) pairs in the right order, the AUROC; a tie counts half; NaN without
    any pair."""
    if not len(ranked.count) or not ranked.negatives:
        return np.nan
    wrong = float(np.dot(ranked.count, ranked.above + ranked.upto)) / 2
    return 1 - wrong / (float(ranked.count.sum()) * ranked.negatives)


class SortedCells:
    """The cells of heatmaps, sorted once for all metrics.

    Args:
        heat: (P, cells) float32, finite.
        truth: of the same images.
    Raises:
        ValueError: the shapes differ, or a value is not finite (training diverged).
    """

    def __init__(self, heat: npt.NDArray[np.float32], truth: PixelTruth) -> None:
        if heat.shape != truth.positive.shape:
            raise ValueError(f"heatmaps are {heat.shape}, but the ground truth is {truth.positive.shape}")
        _check_finite(_ends(heat), heat)
        self.truth = truth
        self._cell_keys = descending_keys(heat.ravel())
        codes = np.arange(heat.size, dtype=np.uint32) if truth.codes is None else truth.codes
        keys, self._codes = _sorted_pairs(self._cell_keys, codes)
        self._last = np.append(keys[1:] != keys[:-1], True).nonzero()[0]
        self._levels = keys[self._last]

    @cached_property
    def ranking(self) -> Ranking:
        """All pixels, as `ranking.rank` ranks them, number for number."""
        cells, level = self._positive_cells
        gained = np.bincount(level, self.truth.positive.ravel()[cells], minlength=len(self._levels))
        return Ranking(
            true_positives=np.append(0.0, np.cumsum(gained)),
            false_positives=self._passed(self._negative),
            threshold=np.append(np.inf, scores_of(self._levels)),
        )

    def ranked(self, group: int | None = None) -> RankedPositives:
        """Return the anomalous pixels of all images, or of one defect type among its images and the nominal ones."""
        truth, (cells, level) = self.truth, self._positive_cells
        if group is not None:
            chosen = np.flatnonzero((truth.group == group)[cells // truth.positive.shape[1]])
            cells, level = cells[chosen], level[chosen]
        above, upto, total = self._negatives(group, level)
        rate_above, rate_upto, least = self._nominal_rates if group is None else (None, None, np.nan)
        return RankedPositives(
            count=truth.positive.ravel()[cells].astype(np.float64),
            image=cells // truth.positive.shape[1],
            level=level,
            above=above,
            upto=upto,
            negatives=total,
            rate_above=rate_above,
            rate_upto=rate_upto,
            least_rate=least,
            find_regions=partial(_at, truth.regions, cells),
        )

    @cached_property
    def _positive_cells(self) -> tuple[Indices, Indices]:
        """The cells with anomalous pixels by score, and their levels."""
        cells = self.truth.positive_cells
        cells = cells[order_of(self._cell_keys[cells])]
        return cells, np.searchsorted(self._levels, self._cell_keys[cells])

    def defect_auroc(self, group: int) -> float:
        """Return the AUROC of one defect type among its images and the nominal ones; NaN where it is undefined.

        Few cells are ranked anew, as in all earlier versions: the last digits of a sum depend on how it is summed.
        """
        part = (self.truth.group == 0) | (self.truth.group == group)
        count = int(np.count_nonzero(part)) * self.truth.positive.shape[1]
        if count > _FEW_CELLS:
            return pair_share(self.ranked(group))
        keys = self._cell_keys.reshape(self.truth.positive.shape)[part]
        counts = (each[part].ravel() for each in (self.truth.positive, self.truth.negative))
        return rank(scores_of(keys.ravel()).astype(np.float32), *counts).auroc() if count else np.nan

    def passed(self, threshold: float) -> tuple[float, float]:
        """Return how many anomalous and how many defect-free pixels are above a threshold."""
        increasing = self.ranking.threshold[:0:-1]
        above = len(increasing) - np.searchsorted(increasing, threshold, "right")
        return float(self.ranking.true_positives[above]), float(self.ranking.false_positives[above])

    def _negatives(self, group: int | None, level: Indices) -> tuple[FloatArray, FloatArray, float]:
        """Return the defect-free pixels above each level and up to it, and all of them, as in `ranked`."""
        if group is None:
            passed = self.ranking.false_positives
            return passed[level], passed[level + 1], float(passed[-1])
        # a defect type whose images have no ground-truth maps has no cells
        keys, own = self._by_group.get(group, (self._cell_keys[:0], np.zeros(1)))
        sought = self._levels[level]
        above = self._nominal[self._ends[level]] + own[np.searchsorted(keys, sought, "left")]
        upto = self._nominal[self._ends[level + 1]] + own[np.searchsorted(keys, sought, "right")]
        return above.astype(np.float64), upto.astype(np.float64), float(self._nominal[-1]) + float(own[-1])

    @cached_property
    def _ends(self) -> Indices:
        """(K + 1,) how many cells, in order, pass each level."""
        return np.append(0, self._last + 1)

    @cached_property
    def _nominal(self) -> Numbers:
        """(n + 1,) defect-free pixels of nominal images among the first cells in order."""
        return self._cumulated(self._negative * self._is_nominal)

    @property
    def _is_nominal(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._part < np.count_nonzero(self.truth.parts[1] == 0))  # these parts come first

    @cached_property
    def _nominal_rates(self) -> tuple[FloatArray, FloatArray, float]:
        """Mean over nominal images of the share of their pixels above each anomalous cell, and up to it; the least
        such share above 0."""
        weight = self.truth.rate_weight
        used = weight[weight > 0]
        _, level = self._positive_cells
        if not len(used):
            nothing = np.full(len(level), np.nan)
            return nothing, nothing, np.nan
        if len(used) == 1:
            passed, scale = self._nominal, float(used[0])
        else:
            passed, scale = np.append(0.0, np.cumsum(weight[self._part] * self._negative)), 1.0
        first = self._ends[np.searchsorted(self._ends, np.argmax(passed > 0))]
        return passed[self._ends[level]] * scale, passed[self._ends[level + 1]] * scale, float(passed[first]) * scale

    @cached_property
    def _by_group(self) -> dict[int, tuple[Keys, Numbers]]:
        """By defect type: the keys of its images' cells in order, and (n + 1,) their defect-free pixels so far."""
        truth, found = self.truth, {}
        keys = self._cell_keys.reshape(truth.negative.shape)
        for group in np.unique(truth.group[truth.group > 0]):
            own = truth.group == group
            ordered, counts = _sorted_pairs(keys[own].ravel(), truth.negative[own].ravel().view(np.uint32))
            found[int(group)] = ordered, self._cumulated(counts)
        return found

    @property
    def _packs_counts(self) -> bool:
        return self.truth.codes is not None

    @cached_property
    def _negative(self) -> Numbers:
        if not self._packs_counts:
            return self.truth.negative.ravel()[self._codes]
        return self._codes & np.uint32((1 << self.truth.code_bits[0]) - 1)

    @cached_property
    def _part(self) -> Numbers:
        """The part of each cell in the order, as small a number as holds all: it is sorted by counting."""
        part, groups = self.truth.parts
        kind = np.uint8 if len(groups) <= np.iinfo(np.uint8).max else np.uint16
        if not self._packs_counts:
            return part.astype(kind)[self._codes // self.truth.positive.shape[1]]
        return (self._codes >> np.uint32(sum(self.truth.code_bits))).astype(kind)

    def _passed(self, counts: Numbers) -> FloatArray:
        """Return (K + 1,) sums of counts over the cells that pass each level."""
        return self._cumulated(counts)[self._ends].astype(np.float64)

    def _cumulated(self, counts: Numbers) -> Numbers:
        """Return (n + 1,) sums of numbers of pixels: in 32 bits, several times as fast, where these hold all pixels."""
        fits = self.truth.size.prod(1).sum() <= np.iinfo(np.int32).max
        passed = np.zeros(len(counts) + 1, np.int32 if fits else np.float64)
        np.cumsum(counts.view(np.int32) if fits else counts, out=passed[1:])
        return passed


def rank_pixels(heatmaps: Iterable[npt.NDArray[np.float32]], truth: FullTruth) -> RankedPositives:
    """Rank the pixels of heatmaps at the size of their ground-truth maps; see `RankedPositives`.

    Memory: 4 bytes a pixel, and about 150 bytes an anomalous pixel.

    Args:
        heatmaps: (H, W) float32 of each image, finite, read one after the other.
        truth: of the same images.
    Raises:
        ValueError: a value is not finite (training diverged).
    """
    free = _FreePixels(truth)
    scores = [free.take(heat, number) for number, heat in enumerate(heatmaps)]
    found = np.concatenate([np.empty(0, np.float32), *scores])
    _check_finite(_ends(found), found)
    keys = descending_keys(found)
    order = order_of(keys)
    keys = keys[order]
    new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    level = np.cumsum(new) - 1
    above, upto, rate_above, rate_upto, least = free.passed(scores_of(keys[new]).astype(np.float32))
    return RankedPositives(
        count=np.ones(len(keys)),
        image=np.repeat(np.arange(len(truth.inside)), [len(each) for each in truth.inside])[order],
        level=level,
        above=above[level],
        upto=upto[level],
        negatives=float(free.total),
        rate_above=rate_above[level],
        rate_upto=rate_upto[level],
        least_rate=least,
        find_regions=partial(_at, truth.regions, order),
    )


class _FreePixels:
    """The values of defect-free pixels, in one array for each size of nominal images and one for anomalous images."""

    def __init__(self, truth: FullTruth) -> None:
        self._truth = truth
        self._kind = np.where(truth.group == 0, truth.size.prod(1), 0)
        self._images = int(np.count_nonzero(truth.group == 0))
        free = truth.size.prod(1) - [len(each) for each in truth.inside]
        self.total = int(free.sum())
        self._values = {
            kind: np.empty(free[self._kind == kind].sum(), np.float32) for kind in np.unique(self._kind).tolist()
        }
        self._filled = dict.fromkeys(self._values, 0)

    def take(self, heat: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.float32]:
        """Keep the defect-free pixels of an image, and return the anomalous ones."""
        kind, inside, flat = int(self._kind[number]), self._truth.inside[number], heat.ravel()
        found = flat[inside]
        if len(inside):
            outside = np.ones(len(flat), bool)
            outside[inside] = False
            flat = flat[outside]
        start = self._filled[kind]
        self._values[kind][start : start + len(flat)] = flat
        self._filled[kind] += len(flat)
        return found

    def passed(self, scores: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, float]:
        """Return how many defect-free pixels are above each score, and at least as high; the same as mean over nominal
        images of their shares; the least such share above 0.

        Args:
            scores: (k,) distinct, from the highest.
        """
        above, upto, rate_above, rate_upto = (np.zeros(len(scores)) for _ in range(4))
        if not self._images:
            rate_above[:] = rate_upto[:] = np.nan
        for values in self._values.values():
            values.sort()
            _check_finite(values[[0, -1]] if len(values) else values, values)
        highest = max((values[-1] for kind, values in self._values.items() if kind), default=0)
        first = 0.0
        for kind, values in self._values.items():
            at_least, higher = counts_above(values, scores)
            above += higher
            upto += at_least
            if kind:
                rate_above += higher / (kind * self._images)
                rate_upto += at_least / (kind * self._images)
                first += (len(values) - np.searchsorted(values, highest)) / (kind * self._images)
        return above, upto, rate_above, rate_upto, first if self._images else np.nan


def counts_above(values: Numbers, scores: Numbers) -> tuple[Indices, Indices]:
    """Return how many of some increasing values are at least each score, and how many are higher."""
    if not len(values):
        return np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    start = np.searchsorted(values, scores)
    end = start.copy()
    equal = np.flatnonzero(values.take(start, mode="clip") == scores)
    end[equal] = np.searchsorted(values, scores[equal], "right")
    return len(values) - start, len(values) - end


def descending_keys(scores: npt.NDArray[np.float32]) -> Keys:
    """Return numbers that order scores from the highest to the lowest; equal for equal scores, also for -0 and 0."""
    bits = (scores.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)
    if len(bits) and scores.min() < 0:
        return np.asarray(~(bits ^ np.where(bits & _SIGN, _ALL, _SIGN)))
    return np.asarray(bits ^ (_ALL ^ _SIGN))


def order_of(keys: Keys) -> Indices:
    """Return the indices that sort keys; several times as fast as `argsort`."""
    return _sorted_pairs(keys, np.arange(len(keys), dtype=np.uint32))[1].astype(np.int64)


def _sorted_pairs(keys: Keys, payload: npt.NDArray[np.uint32]) -> tuple[Keys, npt.NDArray[np.uint32]]:
    """Return keys in order, and the number that came with each: one sort of plain 64-bit numbers, no indices."""
    packed = np.empty((len(keys), 2), "<u4")
    packed[:, 1], packed[:, 0] = keys, payload
    packed.view("<u8").ravel().sort()
    return packed[:, 1].copy(), packed[:, 0].copy()


def scores_of(keys: Keys) -> FloatArray:
    """Return the scores of `descending_keys`."""
    bits = ~keys
    return (bits ^ np.where(bits & _SIGN, _SIGN, _ALL)).view(np.float32).astype(np.float64)


def _ends(values: Numbers) -> Numbers:
    return np.array([values.min(), values.max()]) if values.size else values.ravel()


def _check_finite(ends: Numbers, heat: Numbers) -> None:
    """Raise a `ValueError` if the least or the largest of some values is not finite; NaN is both, and sorted last."""
    if not np.isfinite(ends).all():
        bad = heat.size - np.count_nonzero(np.isfinite(heat))
        raise ValueError(f"scores must be finite, but {bad} of {heat.size} are not")


def _at(regions: DefectRegions, elements: Indices) -> DefectRegions:
    """Return the regions in some elements of all, (n,) without repetition, renumbered to their places among these."""
    most = regions.element.max(initial=-1)
    if len(elements) == elements.max(initial=-1) + 1 > most:  # all of them
        place = np.empty(len(elements), np.int64)
        place[elements] = np.arange(len(elements))
        return DefectRegions(place[regions.element], regions.region, regions.count, regions.area, regions.saturation)
    order = np.argsort(elements, kind="stable")
    at = np.searchsorted(elements, regions.element, sorter=order)
    kept = np.flatnonzero(np.append(elements[order], -1)[at] == regions.element)
    used, region = np.unique(regions.region[kept], return_inverse=True)
    return DefectRegions(order[at[kept]], region, regions.count[kept], regions.area[used], regions.saturation[used])
