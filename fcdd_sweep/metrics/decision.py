"""Decisions: thresholds with a stated false-alarm rate, and how often they are right on the test set.

Thresholds come from nominal images that were held out of training, by split-conformal calibration: of n scores the
ceil((n + 1) * (1 - rate))-th smallest. A new nominal image exceeds it with a probability of at most `rate`, on average
over draws of the held-out images, whatever the distribution of the scores: it and the held-out images are exchangeable.
Source: Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al., JASA 113 (2018), section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.ranking import FloatArray, Numbers, rank
from fcdd_sweep.metrics.score_choice import is_for_selection
from fcdd_sweep.metrics.statistics import wilson_interval

_RECALL = 0.95
"""Recall at which `fpr_at_95_recall` is measured."""
_NOTHING_NOMINAL = "no decision: with images.nominal_label 1 the held-out images count as anomalous"


_HEATMAP_MAX = "score_max"
"""Column of `scores.parquet` that the pixel threshold is calibrated on."""


def fewest_images(rate: float) -> int:
    """Return the least number of held-out nominal images for which there is a threshold at a false-alarm rate."""
    return math.ceil(1 / _exact(rate)) - 1


def conformal_threshold(scores: Numbers, rate: float) -> float:
    """Return the score above which an image is called anomalous; NaN for fewer than `fewest_images` scores.

    Args:
        scores: (n,) of held-out nominal images, in any order.
        rate: greatest probability with which a new nominal image is called anomalous, above 0 and below 1.
    """
    place = math.ceil((len(scores) + 1) * (1 - _exact(rate)))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.nan


def _exact(rate: float) -> Fraction:
    """Return the rate as it is written: 0.05 as a float is a little more than a twentieth, and 20 * 0.95 rounds."""
    return Fraction(repr(rate))


def calibration(score: FloatArray, heatmap_max: FloatArray, rate: float) -> dict[str, Any]:
    """Return both thresholds and what they rest on, as columns of `metrics.parquet`; NaN where there is none.

    The pixel threshold is calibrated on the largest heatmap value of each image, so that its rate is per image: at most
    that share of new nominal images shows any pixel above it.
    """
    count = len(score)
    return {
        "threshold": conformal_threshold(score, rate),
        "pixel_threshold": conformal_threshold(heatmap_max, rate),
        "threshold_source": calibration_text(count, rate),
        "n_calibration": count,
        "false_alarm_rate": rate,
    }


def calibration_text(count: int, rate: float) -> str:
    """Return what can be said of thresholds from `count` held-out nominal images, or why there are none."""
    fewest = fewest_images(rate)
    if count < fewest:
        wanted = f"hold out at least {fewest} nominal images for a false-alarm rate of {_percent(rate)}"
        return f"no decision: {wanted}; {count} {'is' if count == 1 else 'are'} held out"
    inverse = 1 / _exact(rate)
    share = f"1 in {inverse}" if inverse.denominator == 1 else _percent(rate)
    held_out = f"with {count} held-out image{'' if count == 1 else 's'}"
    return f"{held_out} at most {share} of new nominal images is called anomalous, on average over calibrations"


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g}%"


def decision_metrics(
    scores: Mapping[str, Sequence[Any]], column: str, rate: float, *, selecting: bool = False
) -> dict[str, Any]:
    """Return the columns of `metrics.parquet` on thresholds and decisions; NaN where undefined.

    Args:
        scores: columns of `scores.parquet`: `split`, `path`, `label`, `defect` and those of scores.
        column: the one that images are called anomalous by.
        rate: the false-alarm rate.
        selecting: whether `column` was chosen on a part of the held-out images, which then calibrates nothing.
    """
    split, label, defect = (np.array(scores[name], dtype=object) for name in ("split", "label", "defect"))
    held_out = (split == "validation") & (defect == "")
    nominal, tested = held_out & (label == 0), split == "test"
    kept = nominal
    if selecting:
        calibrating = calibrating_paths(scores, rate)
        kept = nominal & np.array([path in calibrating for path in scores["path"]], dtype=bool)
    found = calibration(_values(scores, column, kept), _values(scores, _HEATMAP_MAX, kept), rate)
    if held_out.any() and not nominal.any():
        found["threshold_source"] = _NOTHING_NOMINAL
    elif nominal.any() and not kept.any():
        found["threshold_source"] = calibration_text(int(nominal.sum()), rate)
    elif taken := int(nominal.sum() - kept.sum()):
        found["threshold_source"] += f" ({count_noun(taken, 'other')} chose the image score)"
    test_label = label[tested].astype(np.int8)
    decided = _values(scores, column, tested), found["threshold"]
    marked = _values(scores, _HEATMAP_MAX, tested), found["pixel_threshold"]
    return found | _on_test(test_label, decided, marked)


def calibrating_paths(scores: Mapping[str, Sequence[Any]], rate: float) -> set[str]:
    """Return the paths of the held-out nominal images that calibrate where `auto` chooses the image score.

    None, where all of them together are too few for a threshold: they choose the score.

    Args:
        scores: columns of `scores.parquet`.
        rate: the false-alarm rate.
    """
    rows = zip(*(scores[name] for name in ("split", "label", "defect", "path")), strict=True)
    held_out = [path for *role, path in rows if role == ["validation", 0, ""]]
    return {path for path in held_out if len(held_out) >= fewest_images(rate) and not is_for_selection(path)}


def _values(scores: Mapping[str, Sequence[Any]], column: str, part: npt.NDArray[np.bool_]) -> FloatArray:
    return np.array(scores[column], dtype=object)[part].astype(np.float64)


def _on_test(
    label: npt.NDArray[np.int8], decided: tuple[FloatArray, float], marked: tuple[FloatArray, float]
) -> dict[str, Any]:
    """Return how often decisions are right on the test set.

    Args:
        label: (t,) labels of its images.
        decided: (t,) scores and the threshold.
        marked: (t,) largest values of heatmaps and the pixel threshold.
    """
    (score, threshold), (heatmap_max, pixel_threshold) = decided, marked
    counts: dict[str, Any] = dict.fromkeys(("true_positives", "false_positives", "true_negatives", "false_negatives"))
    shares = dict.fromkeys(("accuracy", "precision", "recall", "f1"), math.nan)
    alarms = regions = Alarms()
    agreement = math.nan
    called, has_region = score > threshold, heatmap_max > pixel_threshold
    decides, marks = not math.isnan(threshold), not math.isnan(pixel_threshold)
    if decides and len(label):
        counts, shares = _confusion(called, label == 1)
        alarms = Alarms.of(called[label == 0])
    if marks:
        regions = Alarms.of(has_region[label == 0])
    if decides and marks and len(label):
        agreement = float((called == has_region).mean())
    return {
        **counts,
        **shares,
        **alarms.columns("test_false_alarm"),
        **regions.columns("test_region"),
        "test_agreement": agreement,
        "fpr_at_95_recall": rank(score, label).fpr_at_recall(_RECALL) if len(label) else math.nan,
    }


class RegionMask(NamedTuple):
    """The pixels of one heatmap above the pixel threshold.

    Attributes:
        regions: number of connected regions; pixels that touch at a side are connected.
        area: their share of all pixels.
    """

    regions: int
    area: float

    @classmethod
    def of(cls, heatmap: Numbers, pixel_threshold: float) -> RegionMask:
        mask = heatmap > pixel_threshold
        return cls(int(ndimage.label(mask)[1]), float(mask.mean()))


class Alarms(NamedTuple):
    """Share of nominal images that a threshold calls anomalous, with its 95% Wilson interval; NaN without images."""

    rate: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, flagged: npt.NDArray[np.bool_]) -> Alarms:
        if not len(flagged):
            return cls()
        return cls(float(flagged.mean()), *wilson_interval(int(flagged.sum()), len(flagged)))

    def columns(self, name: str) -> dict[str, float]:
        return {f"{name}_{part}": value for part, value in self._asdict().items()}


def _confusion(
    called: npt.NDArray[np.bool_], anomalous: npt.NDArray[np.bool_]
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the four counts of decisions, and what is derived from them; NaN where the denominator is 0."""
    true_positives, false_positives = int((called & anomalous).sum()), int((called & ~anomalous).sum())
    false_negatives, true_negatives = int((~called & anomalous).sum()), int((~called & ~anomalous).sum())
    counts = {
        "true_positives": true_positives,
        "false_positives": false_positives,
        "true_negatives": true_negatives,
        "false_negatives": false_negatives,
    }
    shares = {
        "accuracy": _ratio(true_positives + true_negatives, len(called)),
        "precision": _ratio(true_positives, true_positives + false_positives),
        "recall": _ratio(true_positives, true_positives + false_negatives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
    }
    return counts, shares


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
