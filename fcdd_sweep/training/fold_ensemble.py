"""The models of a trial with `evaluation.calibration` cross, which decide together by p-values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.config.fields import TOP_SHARES
from fcdd_sweep.metrics.cross_conformal import LeftOutScores, p_value_column
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.training.image_scores import heatmap_scores
from fcdd_sweep.training.methods import Detection
from fcdd_sweep.training.models import stored_model
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.preprocessing import Preprocessor

HEATMAP_COLUMNS = ("score_max", *TOP_SHARES.values())
"""Columns of `scores.parquet` with scores that heatmaps give."""
PIXEL_COLUMN = "score_max"
"""Column whose left-out scores pixels are compared with: the largest value of each heatmap."""
_Rows = npt.NDArray[np.int64]


class FoldModel(Protocol):
    """One of the models: a detector."""

    @property
    def network(self) -> DetectionNetwork: ...

    @property
    def preprocessor(self) -> Preprocessor: ...

    @property
    def device(self) -> torch.device: ...

    def detect(
        self, raw: npt.NDArray[np.uint8], rows: _Rows | None = None, batch_size: int | None = None
    ) -> Detection: ...

    def heatmaps(self, anomaly_maps: Tensor) -> Tensor: ...


class JointDetection(NamedTuple):
    """Images that the models have scored together.

    Attributes:
        detection: mean maps and scores over the models.
        p_values: (N,) by column of `scores.parquet`. That of the largest heatmap value is the least of a pixel.
        masks: (N, S, S), which pixels are called anomalous; None without a limit.
    """

    detection: Detection
    p_values: dict[str, FloatArray]
    masks: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class FoldModels:
    """Models that were each trained without a fold of the nominal training images.

    Attributes:
        members: the models, in the order of the folds.
        left_out: scores of the nominal training images, each by the member that has not seen it.
    """

    members: tuple[FoldModel, ...]
    left_out: LeftOutScores

    def detect(self, raw: npt.NDArray[np.uint8], rows: _Rows, size: int) -> Detection:
        """Return mean maps and scores of images; see `Detector.detect`."""
        return _joined([mean_detection(found) for found in self._by_batch(raw, rows, size)])

    def detect_together(
        self, raw: npt.NDArray[np.uint8], rows: _Rows, size: int, rate: float, slack: float = 0.0
    ) -> JointDetection:
        """Return mean maps and scores of images, their p-values and, where there are decisions, the masks.

        Args:
            raw, rows: as in `Detector.detect`.
            size: images per batch; of a batch the maps of all models are held, and the heatmaps of one.
            rate, slack: see `decided`.
        """
        batches = [self.decided(found, rate, slack) for found in self._by_batch(raw, rows, size)]
        masks = [each.masks for each in batches if each.masks is not None]
        return JointDetection(
            _joined([each.detection for each in batches]),
            {name: np.concatenate([each.p_values[name] for each in batches]) for name in batches[0].p_values},
            np.concatenate(masks) if masks else None,
        )

    def decided(self, found: Sequence[Detection], rate: float, slack: float = 0.0) -> JointDetection:
        """Return what the models say together of images.

        A mask is empty wherever the p-value of the largest heatmap value is above the level: its false alarms are
        counted by image.

        Args:
            found: of the same images by each model, in the order of `members`.
            rate: the false-alarm rate.
            slack: raises all scores by this share of the largest one: a decision that it turns hangs on rounding.
        """
        counts, of_pixels = self._counts(found, slack)
        limit = self.left_out.limit(rate)
        p_values = {p_value_column(name): self.left_out.p_values(each) for name, each in counts.items()}
        return JointDetection(mean_detection(found), p_values, None if limit is None else of_pixels <= limit)

    def _by_batch(self, raw: npt.NDArray[np.uint8], rows: _Rows, size: int) -> Iterator[list[Detection]]:
        """Yield what each member detects, batch by batch; one empty batch without rows."""
        for start in range(0, max(len(rows), 1), size):
            yield [member.detect(raw, rows[start : start + size], size) for member in self.members]

    def _counts(self, found: Sequence[Detection], slack: float) -> tuple[dict[str, _Rows], _Rows]:
        """Return (B,) counts of images by column of scores, and (B, S, S) counts of pixels."""
        counts: dict[str, _Rows] = {}
        of_pixels: _Rows | int = 0
        for number, (member, detection) in enumerate(zip(self.members, found, strict=True)):
            heatmaps = member.heatmaps(detection.maps)
            by_heatmap = dict(zip(HEATMAP_COLUMNS, heatmap_scores(heatmaps).T.numpy(), strict=True))
            for name, values in {"score_mean": detection.scores.numpy(), **by_heatmap}.items():
                counts[name] = counts.get(name, 0) + self.left_out.counts(number, name, _raised(values, slack))
            pixels = _raised(heatmaps[:, 0].numpy(), slack)
            of_pixels = of_pixels + self.left_out.counts(number, PIXEL_COLUMN, pixels)
        assert not isinstance(of_pixels, int)  # there are models
        counts[PIXEL_COLUMN] = of_pixels.min((1, 2))  # of the most anomalous pixel, so that it decides as the mask does
        return counts, of_pixels


def stored_ensemble(ensemble: FoldModels) -> dict[str, Any]:
    """Return all but the first model of an ensemble, and the left-out scores, as tensors and plain values."""
    fold, columns = ensemble.left_out.fold, ensemble.left_out.columns
    return {
        "further_models": [stored_model(each.network, each.preprocessor) for each in ensemble.members[1:]],
        "left_out_fold": torch.from_numpy(fold),
        "left_out_scores": {name: torch.from_numpy(values) for name, values in columns.items()},
    }


def _raised(values: npt.NDArray[Any], slack: float) -> npt.NDArray[Any]:
    """Return values plus a share of the largest; without a share the values themselves."""
    return values + slack * np.abs(values).max(initial=0) if slack else values


def mean_detection(found: Sequence[Detection]) -> Detection:
    """Return mean maps and scores of the same images by several models."""
    if len(found) == 1:
        return found[0]
    maps = torch.stack([each.maps for each in found]).mean(0)
    return Detection(maps, torch.stack([each.scores for each in found]).mean(0))


def _joined(batches: Sequence[Detection]) -> Detection:
    return Detection(torch.cat([each.maps for each in batches]), torch.cat([each.scores for each in batches]))
