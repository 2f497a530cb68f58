"""Decisions: thresholds with a stated false-alarm rate, and how often they are right on the test set.

Thresholds come from nominal images that were held out of training, by split-conformal calibration: of n scores the
ceil((n + 1) * (1 - rate))-th smallest. A new nominal image exceeds it with a probability of at most `rate`, on average
over draws of the held-out images, whatever the distribution of the scores: it and the held-out images are exchangeable.
Source: Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al., JASA 113 (2018), section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.cross_conformal import (
    OUT_OF_FOLD,
    LeftOutScores,
    false_alarm_bound,
    fewest_folds,
    largest_limit,
    p_value_column,
)
from fcdd_sweep.metrics.ranking import FloatArray, Numbers, rank
from fcdd_sweep.metrics.score_choice import is_for_selection, is_held_out
from fcdd_sweep.metrics.statistics import exact_fraction, percent_text, share_text, wilson_interval

_RECALL = 0.95
"""Recall at which `fpr_at_95_recall` is measured."""
_NOTHING_NOMINAL = "no decision: with images.nominal_label 1 the held-out images count as anomalous"

_Flags = npt.NDArray[np.bool_]
_HEATMAP_MAX = "score_max"
"""Column of `scores.parquet` that the pixel threshold is calibrated on."""


def fewest_images(rate: float) -> int:
    """Return the least number of held-out nominal images for which there is a threshold at a false-alarm rate."""
    return math.ceil(1 / exact_fraction(rate)) - 1


def conformal_threshold(scores: Numbers, rate: float) -> float:
    """Return the score above which an image is called anomalous; NaN for fewer than `fewest_images` scores.

    Args:
        scores: (n,) of held-out nominal images, in any order.
        rate: greatest probability with which a new nominal image is called anomalous, above 0 and below 1.
    """
    place = math.ceil((len(scores) + 1) * (1 - exact_fraction(rate)))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.nan


def calibration(score: FloatArray, heatmap_max: FloatArray, rate: float) -> dict[str, Any]:
    """Return both thresholds and what they rest on, as columns of `metrics.parquet`; NaN where there is none.

    The pixel threshold is calibrated on the largest heatmap value of each image, so that its rate is per image: at most
    that share of new nominal images shows any pixel above it.
    """
    count = len(score)
    return {
        "calibration": "split",
        "threshold": conformal_threshold(score, rate),
        "pixel_threshold": conformal_threshold(heatmap_max, rate),
        "p_value_level": math.nan,
        "threshold_source": calibration_text(count, rate),
        "n_calibration": count,
        "folds": None,
        "false_alarm_rate": rate,
    }


def calibration_text(count: int, rate: float) -> str:
    """Return what can be said of thresholds from `count` held-out nominal images, or why there are none."""
    if count < fewest_images(rate):
        return f"no decision: {_wanted(rate)}; {count} {'is' if count == 1 else 'are'} held out"
    held_out = f"with {count} held-out image{'' if count == 1 else 's'}"
    promise = f"at most {share_text(rate)} of new nominal images is called anomalous"
    fewest = fewest_images(rate)
    least = f"{count_noun(fewest, 'image')} {'is' if fewest == 1 else 'are'} the fewest for which that can be said"
    return f"{held_out} {promise}, on average over calibrations; {least}"


def _wanted(rate: float) -> str:
    return f"hold out at least {fewest_images(rate)} nominal images for a false-alarm rate of {percent_text(rate)}"


def cross_calibration(left_out: LeftOutScores, rate: float) -> dict[str, Any]:
    """Return what cross-conformal decisions rest on, as columns of `metrics.parquet`: p-values have no threshold."""
    return {
        "calibration": "cross",
        "threshold": math.nan,
        "pixel_threshold": math.nan,
        "p_value_level": left_out.level(rate),
        "threshold_source": cross_text(left_out.models, left_out.per_model, rate),
        "n_calibration": len(left_out),
        "folds": left_out.models,
        "false_alarm_rate": rate,
    }


def cross_text(models: int, per_model: int, rate: float) -> str:
    """Return what can be said of decisions by `models` models that left out `per_model` images each, or why there are
    none."""
    images = models * per_model
    limit = largest_limit(models, per_model, rate)
    if limit is None:
        lowest = percent_text(float(false_alarm_bound(0, models, per_model))) if per_model else "100%"
        what = f"no decision: {models} models of {images} images keep no false-alarm rate below {lowest}"
        enough = fewest_folds(images, rate)
        return f"{what}; {_wanted_folds(images, rate) if enough is None else f'set evaluation.folds to {enough}'}"
    bound = percent_text(float(false_alarm_bound(limit, models, per_model)))
    promise = f"at most {share_text(rate)} of new nominal images is called anomalous"
    basis = f"with {models} models, each without {per_model} of {images} nominal training images"
    at_most = f"at most {limit} of these" if limit else "none of these"
    rule = f"an image is called anomalous when {at_most} has as high a score by the model that left it out"
    return f"{basis}, {promise}, on average over training sets (cross-conformal, proven bound {bound}: {rule})"


def _wanted_folds(images: int, rate: float) -> str:
    fewest, percent = fewest_images(rate), percent_text(rate)
    return f"a false-alarm rate of {percent} needs at least {fewest} nominal training images, found {images}"


def no_calibration(rate: float) -> dict[str, Any]:
    """Return the columns of `metrics.parquet` on decisions where `evaluation.calibration` is none."""
    text = f"no decision: evaluation.calibration is none; to decide set it to split and {_wanted(rate)}"
    return calibration(np.empty(0), np.empty(0), rate) | {"calibration": "none", "threshold_source": text}


def decision_metrics(
    scores: Mapping[str, Sequence[Any]], column: str, rate: float, method: str = "split", *, selecting: bool = False
) -> dict[str, Any]:
    """Return the columns of `metrics.parquet` on thresholds and decisions; NaN where undefined.

    Args:
        scores: columns of `scores.parquet`: `split`, `path`, `label`, `defect`, those of scores and, where there are
            out-of-fold scores, `fold` and those of p-values.
        column: the one that images are called anomalous by.
        rate: the false-alarm rate.
        method: `split` or `none`; out-of-fold scores decide whatever it is.
        selecting: whether `column` was chosen on a part of the held-out images, which then calibrates nothing.
    """
    split, label = (np.array(scores[name], dtype=object) for name in ("split", "label"))
    tested = split == "test"
    called: _Flags | None = None
    marked: _Flags | None = None
    if (split == OUT_OF_FOLD).any():
        found = cross_calibration(left_out_scores(scores), rate)
        if not math.isnan(level := found["p_value_level"]):
            by_score, by_pixel = (_values(scores, p_value_column(name), tested) for name in (column, _HEATMAP_MAX))
            called, marked = by_score <= level, by_pixel <= level
    else:
        found = (
            no_calibration(rate) if method == "none" else _split_calibration(scores, column, rate, selecting=selecting)
        )
        if not math.isnan(found["threshold"]):
            called = _values(scores, column, tested) > found["threshold"]
            marked = _values(scores, _HEATMAP_MAX, tested) > found["pixel_threshold"]
    test_label, score = label[tested].astype(np.int8), _values(scores, column, tested)
    recalled = rank(score, test_label).fpr_at_recall(_RECALL) if len(score) else math.nan
    return found | _on_test(test_label, called, marked) | {"fpr_at_95_recall": recalled}


def _split_calibration(
    scores: Mapping[str, Sequence[Any]], column: str, rate: float, *, selecting: bool
) -> dict[str, Any]:
    split, label, defect = (np.array(scores[name], dtype=object) for name in ("split", "label", "defect"))
    held_out = (split == "validation") & (defect == "")
    nominal = held_out & (label == 0)
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
    return found


def left_out_scores(scores: Mapping[str, Sequence[Any]]) -> LeftOutScores:
    """Return the out-of-fold scores in the columns of `scores.parquet`."""
    part = np.array(scores["split"], dtype=object) == OUT_OF_FOLD
    fold = np.array(scores["fold"], dtype=object)[part].astype(np.int64)
    columns = {name: _values(scores, name, part) for name in scores if name.startswith("score_")}
    return LeftOutScores(fold, columns)


def calibrating_paths(scores: Mapping[str, Sequence[Any]], rate: float) -> set[str]:
    """Return the paths of the held-out nominal images that calibrate where `auto` chooses the image score.

    None, where all of them together are too few for a threshold, or out-of-fold scores decide: they choose the score.

    Args:
        scores: columns of `scores.parquet`.
        rate: the false-alarm rate.
    """
    if OUT_OF_FOLD in scores["split"]:
        return set()
    held_out = [path for path, wanted in zip(scores["path"], is_held_out(scores), strict=True) if wanted]
    return {path for path in held_out if len(held_out) >= fewest_images(rate) and not is_for_selection(path)}


def _values(scores: Mapping[str, Sequence[Any]], column: str, part: npt.NDArray[np.bool_]) -> FloatArray:
    return np.array(scores[column], dtype=object)[part].astype(np.float64)


def _on_test(label: npt.NDArray[np.int8], called: _Flags | None, has_region: _Flags | None) -> dict[str, Any]:
    """Return how often decisions are right on the test set.

    Args:
        label: (t,) labels of its images.
        called: (t,), which are called anomalous; None without a decision.
        has_region: (t,), which have an anomalous pixel; None without a decision.
    """
    counts: dict[str, Any] = dict.fromkeys(("true_positives", "false_positives", "true_negatives", "false_negatives"))
    shares = dict.fromkeys(("accuracy", "precision", "recall", "f1"), math.nan)
    alarms = regions = Alarms()
    agreement = math.nan
    if called is not None and len(label):
        counts, shares = confusion(called, label == 1)
        alarms = Alarms.of(called[label == 0])
    if has_region is not None:
        regions = Alarms.of(has_region[label == 0])
    if called is not None and has_region is not None and len(label):
        agreement = float((called == has_region).mean())
    return {
        **counts,
        **shares,
        **alarms.columns("test_false_alarm"),
        **regions.columns("test_region"),
        "test_agreement": agreement,
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
        from scipy import ndimage  # slow to import, and planning does not need it

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


def confusion(
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
