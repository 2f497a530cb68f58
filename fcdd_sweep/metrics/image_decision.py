"""What is decided about one image: by its score, by its heatmap, or by the votes of several detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.decision import RegionMask


class Decision(NamedTuple):
    """The decisions about one image; None where there is no threshold.

    Attributes:
        label: 1 anomalous, 0 nominal.
        threshold: of the score; None for the votes of several detectors, too, each of which has its own.
        heatmap_max: the largest value of the heatmap.
        pixel_threshold: of the heatmap; None as `threshold`.
        has_region: whether the mask has any pixel.
        n_regions: number of connected regions of the mask.
        region_area: share of the heatmap's pixels in the mask.
        agrees: whether the image is anomalous and has a region, or neither.
        agreement: share of several detectors whose label is this one; None for a single one.
        p_value: up to a level the image is anomalous; None where thresholds decide.
        mask: (S, S) bool, the pixels of the heatmap that are anomalous, and gaps between them, see `closed`.
    """

    label: int | None
    threshold: float | None
    heatmap_max: float
    pixel_threshold: float | None
    has_region: bool | None
    n_regions: int | None
    region_area: float | None
    agrees: bool | None
    agreement: float | None = None
    p_value: float | None = None
    mask: npt.NDArray[np.bool_] | None = None


def closed(masks: npt.NDArray[np.bool_], cell_px: int) -> npt.NDArray[np.bool_]:
    """Return masks with the gaps closed that are less wide than a cell of the anomaly map.

    A heatmap has one bump a cell. Where bumps are narrower than cells, only their tops are above a threshold, and one
    defect would be a grid of dots. A mask without a pixel stays so, and no pixel is taken away.

    Args:
        masks: (..., S, S).
        cell_px: distance between cells in pixels.
    """
    side = cell_px | 1  # odd: symmetric about a pixel
    if side == 1 or not masks.any():
        return masks
    from scipy import ndimage  # slow to import, and planning does not need it

    size = (*(1 for _ in masks.shape[:-2]), side, side)
    grown = ndimage.maximum_filter(masks, size, mode="constant", cval=0)
    shrunk: npt.NDArray[np.bool_] = ndimage.minimum_filter(grown, size, mode="constant", cval=1)
    return shrunk


def decide(
    score: float, heatmap: npt.NDArray[np.float32], threshold: float, pixel_threshold: float, cell_px: int = 1
) -> Decision:
    """Return what thresholds say of an image; NaN is no threshold.

    Args:
        score: of the image.
        heatmap: (S, S), not blurred: pixel thresholds come from such heatmaps.
        threshold: of the score.
        pixel_threshold: of the heatmap.
        cell_px: see `closed`.
    """
    label = None if math.isnan(threshold) else int(score > threshold)
    mask = None if math.isnan(pixel_threshold) else closed(heatmap > pixel_threshold, cell_px)
    named = (None if label is None else threshold, None if mask is None else pixel_threshold)
    return _decision(label, mask, float(heatmap.max()), named)


def decide_by_p_value(
    p_value: float, level: float, mask: npt.NDArray[np.bool_] | None, heatmap: npt.NDArray[np.float32]
) -> Decision:
    """Return what p-values say of an image.

    Args:
        p_value: of the image.
        level: up to which it is anomalous; NaN: there is no decision.
        mask: (S, S), the pixels whose p-values are at most the level, `closed`; None without a decision.
        heatmap: (S, S).
    """
    label = None if math.isnan(level) else int(p_value <= level)
    return _decision(label, mask, float(heatmap.max()), (None, None))._replace(p_value=p_value)


def relabeled(decision: Decision, score: float, threshold: float) -> Decision:
    """Return a decision with the label by a threshold of the score instead."""
    label = int(score > threshold)
    agrees = None if decision.has_region is None else bool(label) == decision.has_region
    return decision._replace(label=label, threshold=threshold, agrees=agrees)


def vote(decisions: Sequence[Decision], heatmap_max: float) -> Decision:
    """Return the decision of at least half of several detectors, pixel by pixel for the mask.

    An even split counts as anomalous. If each keeps a false-alarm rate, at most twice that share of new nominal images
    is called anomalous (Markov's inequality on the number of false alarms).

    Args:
        decisions: one or more; without a threshold in one of them there is no label, or no mask.
        heatmap_max: the largest value of the detectors' common heatmap.
    """
    votes = [each.label for each in decisions if each.label is not None]
    masks = [each.mask for each in decisions if each.mask is not None]
    label = int(2 * sum(votes) >= len(votes)) if len(votes) == len(decisions) else None
    mask = 2 * np.sum(masks, axis=0) >= len(masks) if len(masks) == len(decisions) else None
    agreement = None if label is None else votes.count(label) / len(votes)
    return _decision(label, mask, heatmap_max, (None, None))._replace(agreement=agreement)


def _decision(
    label: int | None,
    mask: npt.NDArray[np.bool_] | None,
    heatmap_max: float,
    thresholds: tuple[float | None, float | None],
) -> Decision:
    regions = None if mask is None else RegionMask.of(mask, 0.5)
    has_region = None if regions is None else regions.regions > 0
    return Decision(
        label=label,
        threshold=thresholds[0],
        heatmap_max=heatmap_max,
        pixel_threshold=thresholds[1],
        has_region=has_region,
        n_regions=None if regions is None else regions.regions,
        region_area=None if regions is None else regions.area,
        agrees=None if label is None or has_region is None else bool(label) == has_region,
        mask=mask,
    )
