"""All that a detector computes as one module, from 8-bit images to decisions, for files that other programs run."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcdd_sweep.metrics.heatmap_values import upsampling_weights
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.fold_ensemble import HEATMAP_COLUMNS, PIXEL_COLUMN, FoldModel
from fcdd_sweep.training.image_scores import heatmap_scores


class _Seen(NamedTuple):
    """What one model says of images: (N, 1, U, V) maps, (N,) scores of the maps, and (N, 1, S, S) heatmaps."""

    maps: Tensor
    scores: Tensor
    heatmaps: Tensor

    def deciding(self, column: str) -> Tensor:
        """Return the (N,) scores of a column of `scores.parquet`."""
        if column not in HEATMAP_COLUMNS:
            return self.scores
        return heatmap_scores(self.heatmaps)[:, HEATMAP_COLUMNS.index(column)]


class _Model(nn.Module):
    """Preprocessing, network and upsampling of a detector, or of one of the models that decide together."""

    rows: Tensor
    columns: Tensor
    weights: Tensor

    def __init__(self, detector: Detector, model: FoldModel) -> None:
        super().__init__()
        assert isinstance(model.network, nn.Module)
        self.network, self.preprocessor, self.method = model.network, model.preprocessor, detector.method
        geometry, maps = self.preprocessor.recipe.test_geometry, detector.map_geometry
        self.register_buffer("rows", geometry.rows[0])
        self.register_buffer("columns", geometry.columns[0])
        # not the network's own upsampling, whose cached weights would be those of the tracing
        cells = model.network.receptive_field.width if self.method.by_cells else maps.out_size[0]
        of_axis = upsampling_weights(maps.receptive_field, cells, maps.out_size[0], maps.std)
        self.register_buffer("weights", torch.tensor(of_axis, dtype=torch.float32))

    def forward(self, images: Tensor) -> _Seen:
        seen = images.index_select(2, self.rows).index_select(3, self.columns)
        # in float64: onnxruntime sums float32 one by one, whose rounding local contrast normalization would enlarge
        inputs = self.preprocessor.normalized((seen.float() / 255).double()).float()
        maps, scores = self.method.detect(self.network, inputs)
        return _Seen(maps, scores, self.upsampled(maps))

    def upsampled(self, maps: Tensor) -> Tensor:
        return self.weights @ (maps @ self.weights.mT) if self.method.by_cells else maps


class DetectorGraph(nn.Module):
    """All that the file computes: (N, C, R, R) uint8 images to scores, heatmaps and, where there are any, decisions."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        members = (detector,) if detector.ensemble is None else detector.ensemble.members
        self.models = nn.ModuleList(_Model(detector, member) for member in members)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = [model(images) for model in self.models]
        seen = found[0] if len(found) == 1 else self._mean(found)
        scores = seen.deciding(self.detector.score_column)
        return scores.float(), seen.heatmaps, *self._decisions(scores, seen.heatmaps, found)

    def _mean(self, found: list[_Seen]) -> _Seen:
        maps, scores = (torch.stack([each[i] for each in found]).mean(0) for i in (0, 1))
        return _Seen(maps, scores, self.models[0].upsampled(maps))

    def _decisions(self, scores: Tensor, heatmaps: Tensor, found: list[_Seen]) -> list[Tensor]:
        detector = self.detector
        if detector.ensemble is not None:
            return self._joint_decisions(found)
        called = [] if math.isnan(detector.threshold) else [scores > detector.threshold]
        if not math.isnan(detector.pixel_threshold):
            called.append(self._closed(heatmaps > detector.pixel_threshold))
        return called

    def _joint_decisions(self, found: list[_Seen]) -> list[Tensor]:
        """Return p-values of images and, with a limit, decisions on images and pixels; see `FoldModels.decided`."""
        ensemble, column = self.detector.ensemble, self.detector.score_column
        assert ensemble is not None
        limit = ensemble.left_out.limit(self.detector.settings.evaluation.false_alarm_rate)
        pixels = self._count(PIXEL_COLUMN, [each.heatmaps for each in found])
        if column == PIXEL_COLUMN:
            images = pixels.amin((1, 2, 3))
        else:
            images = self._count(column, [each.deciding(column) for each in found])
        p_values = (1 + images).double() / (len(ensemble.left_out) + 1)
        return [p_values.float(), *([] if limit is None else [images <= limit, self._closed(pixels <= limit)])]

    def _closed(self, masks: Tensor) -> Tensor:
        """Return (N, 1, S, S) masks as `metrics.image_decision.closed` does."""
        side = self.detector.cell_px | 1
        grown = F.max_pool2d(masks.float(), side, 1, side // 2)
        return -F.max_pool2d(-grown, side, 1, side // 2) > 0.5

    def _count(self, column: str, values: list[Tensor]) -> Tensor:
        """Return of each value how many left-out images have at least it by the models that left them out: int64."""
        assert self.detector.ensemble is not None
        left_out = self.detector.ensemble.left_out
        counted = torch.zeros_like(values[0], dtype=torch.int64)
        for number, of_model in enumerate(values):
            for score in left_out.columns[column][left_out.fold == number].tolist():
                counted = counted + (of_model <= score)
        return counted


def output_names(detector: Detector) -> list[str]:
    """Return the names of what `DetectorGraph` returns."""
    if detector.ensemble is not None:
        limit = detector.ensemble.left_out.limit(detector.settings.evaluation.false_alarm_rate)
        return ["score", "heatmap", "p_value", *([] if limit is None else ["anomalous", "mask"])]
    thresholds = {"anomalous": detector.threshold, "mask": detector.pixel_threshold}
    return ["score", "heatmap", *(name for name, threshold in thresholds.items() if not math.isnan(threshold))]


def exported_program(detector: Detector) -> torch.export.ExportedProgram:
    """Return the detector, on the CPU, as a traced program for batches of any size."""
    images = detector.settings.images
    example = torch.zeros(2, images.channels, images.load_size, images.load_size, dtype=torch.uint8)
    with torch.no_grad():
        graph = DetectorGraph(detector).eval()
        return torch.export.export(
            graph, (example,), dynamic_shapes=({0: torch.export.Dim("N", max=2**31 - 1)},), strict=False
        )
