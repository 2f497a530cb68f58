"""Metrics of a detector on its validation images, which settings are selected by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.metrics.ranking import FloatArray, auroc, cell_counts, rank
from fcdd_sweep.metrics.statistics import auroc_standard_error
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.methods import Detection
from fcdd_sweep.training.validation_split import ValidationSet

_PIXEL_IMAGES = 100
"""Images of each label whose pixels are ranked; each has thousands, and all of them would fill the memory."""


@dataclass(frozen=True)
class ValidationResult:
    """Scores of validation images, and the metrics over them.

    Attributes:
        nominal: (v,) scores and p-values by column of `scores.parquet`.
        anomalous: (m,) scores.
        selection: (s,) scores of the anomalies that only an image score is chosen on.
        metrics: columns of `metrics.parquet`, of the mean or, by their names, of the largest heatmap value, whatever
            `evaluation.image_score` is; NaN where undefined.
    """

    nominal: dict[str, FloatArray]
    anomalous: dict[str, FloatArray]
    selection: dict[str, FloatArray]
    metrics: dict[str, Any]


def validate(detector: Detector, corpus: Corpus, validation: ValidationSet) -> ValidationResult:
    """Score the validation images and compute their metrics. The test set is not read."""
    by_nominal = detector.scored(corpus.images, validation.nominal)
    by_anomalous = detector.scored(validation.anomalies.images)
    nominal, anomalous = by_nominal.detection, by_anomalous.detection
    metrics: dict[str, Any] = {
        "selection_source": validation.source,
        "n_validation": len(validation.nominal),
        "n_validation_anomalous": len(validation.anomalies),
        "validation_image_auroc": math.nan,
        "validation_image_ap": math.nan,
        "validation_pixel_auroc": _pixel_auroc(detector, validation, nominal, anomalous),
        "validation_image_auroc_std_error": math.nan,
        "validation_image_auroc_max": math.nan,
        "validation_image_auroc_max_std_error": math.nan,
    }
    scores = np.concatenate([nominal.scores.numpy(), anomalous.scores.numpy()])
    largest = np.concatenate([by_nominal.columns["score_max"], by_anomalous.columns["score_max"]])
    label = _labels(detector, validation)
    if len(label):
        ranking = rank(scores, label)
        metrics["validation_image_auroc"] = ranking.auroc()
        metrics["validation_image_ap"] = ranking.average_precision()
        metrics["validation_image_auroc_std_error"] = auroc_standard_error(scores, label)
        metrics["validation_image_auroc_max"] = auroc(largest, label)
        metrics["validation_image_auroc_max_std_error"] = auroc_standard_error(largest, label)
    selection = detector.scored(validation.selection.images).columns
    return ValidationResult(by_nominal.columns, by_anomalous.columns, selection, metrics)


def validation_auroc(detector: Detector, corpus: Corpus, validation: ValidationSet) -> float:
    """Return the AUROC over validation images of a network in training, and leave its mode as it was.

    NaN where it is undefined, also for scores that are not finite: measuring must not end a training.
    """
    was_training = detector.network.training
    nominal = detector.detect(corpus.images, validation.nominal).scores.numpy()
    anomalous = detector.detect(validation.anomalies.images).scores.numpy()
    detector.network.train(was_training)
    scores = np.concatenate([nominal, anomalous])
    if not len(scores) or not np.isfinite(scores).all():
        return math.nan
    return auroc(scores, _labels(detector, validation))


def _labels(detector: Detector, validation: ValidationSet) -> npt.NDArray[np.int8]:
    """Return (v + m,) labels: nominal images, then anomalous ones; swapped with `images.nominal_label` 1."""
    anomalous = np.repeat(np.array([0, 1], np.int8), [len(validation.nominal), len(validation.anomalies)])
    return anomalous ^ np.int8(detector.settings.images.nominal_label)


def _pixel_auroc(detector: Detector, validation: ValidationSet, nominal: Detection, anomalous: Detection) -> float:
    """Return the AUROC over pixels at the raw size; NaN where the anomalies have no maps because none was rendered.

    With `images.nominal_label` 1 it is NaN too: the maps mark defects, which that label calls nominal.
    """
    gt_maps = validation.anomalies.gt_maps
    if gt_maps is None or not len(gt_maps) or detector.settings.images.nominal_label:
        return math.nan
    size, (height, width) = detector.settings.images.size, gt_maps.shape[1:]
    shown, clean = gt_maps[:_PIXEL_IMAGES], np.zeros((height, width), dtype=bool)
    counts = [cell_counts(mask, size) for mask in shown]
    counts += [cell_counts(clean, size)] * min(len(validation.nominal), _PIXEL_IMAGES)
    positive = np.stack([positive.ravel() for positive, _ in counts])
    total = np.stack([total.ravel() for _, total in counts])
    maps = (anomalous.maps[:_PIXEL_IMAGES], nominal.maps[:_PIXEL_IMAGES])
    heat = np.concatenate([detector.heatmaps(each).flatten(1).numpy() for each in maps])
    return auroc(heat.ravel(), positive.ravel(), (total - positive).ravel())
