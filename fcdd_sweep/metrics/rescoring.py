"""Image metrics of a trial by another score of its images, from its `scores.parquet` alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.curves import thin_curve
from fcdd_sweep.metrics.pixel_figures import RECALL
from fcdd_sweep.metrics.ranking import Curve, FloatArray, Ranking, rank

IMAGE_METRICS = ("image_auroc", "image_ap", "f1_max_oracle", "precision_at_95_recall")
"""Columns of `metrics.parquet` that depend on the scores of test images alone."""


def image_metrics(by_image: Ranking) -> dict[str, float]:
    """Return the columns `IMAGE_METRICS` of ranked test images; NaN where undefined."""
    values = (by_image.auroc(), by_image.average_precision(), by_image.f1_max(), by_image.precision_at_recall(RECALL))
    return dict(zip(IMAGE_METRICS, values, strict=True))


@dataclass(frozen=True)
class ScoredImages:
    """The test images of a trial.

    Attributes:
        score: (t,) float64, by one of the columns.
        label: (t,) int8.
        defect: (t,) names; empty for images without a defect.
    """

    score: FloatArray
    label: npt.NDArray[np.int8]
    defect: npt.NDArray[np.object_]

    @classmethod
    def of(cls, scores: Mapping[str, Sequence[Any]], column: str) -> ScoredImages:
        tested = np.array(scores["split"], dtype=object) == "test"
        score, label, defect = (np.array(scores[name], dtype=object)[tested] for name in (column, "label", "defect"))
        return cls(score.astype(np.float64), label.astype(np.int8), defect)

    @property
    def auroc(self) -> float:
        """Return the AUROC; NaN where undefined."""
        return rank(self.score, self.label).auroc() if len(self.label) else math.nan

    def metrics(self) -> dict[str, float]:
        """Return the columns `IMAGE_METRICS`; NaN where undefined."""
        if not len(self.label):
            return dict.fromkeys(IMAGE_METRICS, math.nan)
        return image_metrics(rank(self.score, self.label))

    def curves(self) -> dict[str, Curve]:
        """Return ROC and precision-recall curves by kind, thinned; none where a label is missing."""
        if not len(self.label) or not (by_image := rank(self.score, self.label)).is_defined:
            return {}
        return {"image_roc": thin_curve(*by_image.roc), "image_pr": thin_curve(*by_image.pr)}

    def defect_auroc(self, defect: str) -> float:
        """Return the AUROC of the images with a defect against those without any."""
        part = (self.defect == "") | (self.defect == defect)
        return rank(self.score[part], self.label[part]).auroc()
