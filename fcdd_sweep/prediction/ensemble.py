"""Several detectors of one class, one for each seed, that predict together.

- Label and mask: that of at least half of the detectors, each by its own thresholds. If each keeps a false-alarm rate,
  at most twice that share of new nominal images is called anomalous.
- Score: each detector's score minus the mean and divided by the standard deviation of its scores of held-out nominal
  images, averaged over the detectors. Where a detector has no such images, the mean of the plain scores.
- Heatmap: each in units of its pixel threshold, averaged; where a detector has none, the mean of the plain heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.given import GivenImage
from fcdd_sweep.metrics.image_decision import Decision, relabeled, vote
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.prediction import ImagePrediction
from fcdd_sweep.training.predictor import Predictor, ReadImage


class Calibration(NamedTuple):
    """Mean and standard deviation of a detector's scores of held-out nominal images."""

    mean: float
    deviation: float


class EnsembleMember(NamedTuple):
    """One of several detectors.

    Attributes:
        predictor: the detector, as a whole or in tiles.
        detector: has its thresholds.
        calibration: of its scores; None without held-out images.
    """

    predictor: Predictor
    detector: Detector
    calibration: Calibration | None


@dataclass(frozen=True)
class Ensemble(Predictor):
    """Detectors that read images in the same way.

    Attributes:
        members: two or more.
        threshold: of the common score, in place of the votes; None: the votes decide.
    """

    members: tuple[EnsembleMember, ...]
    threshold: float | None = None

    @property
    def images_together(self) -> int:
        return min(each.predictor.images_together for each in self.members)

    @property
    def is_standardized(self) -> bool:
        """Whether scores are in standard deviations of held-out nominal images."""
        return all(each.calibration is not None for each in self.members)

    def read(self, image: GivenImage, name: str) -> ReadImage:
        """Return an image as the detectors need it; see `predict`."""
        return self.members[0].predictor.read(image, name)

    def predict_batch(self, images: Sequence[ReadImage]) -> list[ImagePrediction]:
        """Return the common predictions on images that `read` returned."""
        of_members = [each.predictor.predict_batch(images) for each in self.members]
        return [self._common(together) for together in zip(*of_members, strict=True)]

    def _common(self, predictions: Sequence[ImagePrediction]) -> ImagePrediction:
        scores = [self._own_score(*pair) for pair in zip(self.members, predictions, strict=True)]
        score, first = float(np.mean(scores)), predictions[0]
        heatmap, color_range = _mean_heatmap(predictions)
        decision = vote([each.decision for each in predictions], float(heatmap.max()))
        if self.threshold is not None:
            decision = _by_threshold(decision, score, scores, self.threshold)
        return ImagePrediction(
            name=first.name,
            path=first.path,
            score=score,
            basis=self._basis(predictions),
            clipped=first.clipped,
            decision=decision,
            view=first.view._replace(heatmap=heatmap, color_range=color_range),
        )

    def _own_score(self, member: EnsembleMember, prediction: ImagePrediction) -> float:
        if not self.is_standardized or member.calibration is None:
            return prediction.score
        return (prediction.score - member.calibration.mean) / member.calibration.deviation

    def _basis(self, predictions: Sequence[ImagePrediction]) -> str:
        count = count_noun(len(predictions), "seed")
        each = "; ".join(dict.fromkeys(prediction.basis for prediction in predictions))
        if self.threshold is not None:
            return (
                f"the image threshold of {self.threshold:g} is yours, without a stated false-alarm rate; pixels: {each}"
            )
        if any(prediction.label is None for prediction in predictions):
            return each
        rate = 2 * max(member.detector.settings.evaluation.false_alarm_rate for member in self.members)
        bound = f", so that at most {100 * rate:.4g}% of new nominal images is called anomalous" if rate < 1 else ""
        return f"half of {count} decide{bound}; each seed: {each}"


def _mean_heatmap(
    predictions: Sequence[ImagePrediction],
) -> tuple[npt.NDArray[np.float32], tuple[float, float] | None]:
    """Return the mean of heatmaps and the range of its colors."""
    thresholds = [each.pixel_threshold for each in predictions]
    unit = [1.0 if None in thresholds or not each else each for each in thresholds]
    heatmap = np.mean([each.view.heatmap / one for each, one in zip(predictions, unit, strict=True)], axis=0)
    ranges = [each.view.color_range for each in predictions]
    if None in ranges:
        return heatmap.astype(np.float32), None
    ends = np.mean([np.array(each) / one for each, one in zip(ranges, unit, strict=True)], axis=0)
    return heatmap.astype(np.float32), (float(ends[0]), float(ends[1]))


def _by_threshold(decision: Decision, score: float, scores: Sequence[float], threshold: float) -> Decision:
    found = relabeled(decision, score, threshold)
    return found._replace(agreement=float(np.mean([int(each > threshold) == found.label for each in scores])))
