"""All that a detector computes as one module, from 8-bit images to decisions, for files that other programs run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fcdd_sweep.metrics.heatmap_values import upsampling_weights
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.fold_ensemble import HEATMAP_COLUMNS
from fcdd_sweep.training.image_scores import heatmap_scores


class DetectorGraph(nn.Module):
    """All that the file computes: (N, C, R, R) uint8 images to scores, heatmaps and, with thresholds, decisions."""

    rows: Tensor
    columns: Tensor
    weights: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        assert isinstance(detector.network, nn.Module)
        self.network = detector.network
        self.detector = detector
        geometry, maps = detector.preprocessor.recipe.test_geometry, detector.map_geometry
        self.register_buffer("rows", geometry.rows[0])
        self.register_buffer("columns", geometry.columns[0])
        # not the network's own upsampling, whose cached weights would be those of the tracing
        cells = detector.network.receptive_field.width if detector.method.by_cells else maps.out_size[0]
        of_axis = upsampling_weights(maps.receptive_field, cells, maps.out_size[0], maps.std)
        self.register_buffer("weights", torch.tensor(of_axis, dtype=torch.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        detector = self.detector
        seen = images.index_select(2, self.rows).index_select(3, self.columns)
        # in float64: onnxruntime sums float32 one by one, whose rounding local contrast normalization would enlarge
        inputs = detector.preprocessor.normalized((seen.float() / 255).double()).float()
        maps, scores = detector.method.detect(detector.network, inputs)
        heatmaps = self.weights @ (maps @ self.weights.mT) if detector.method.by_cells else maps
        if detector.score_column in HEATMAP_COLUMNS:
            scores = heatmap_scores(heatmaps)[:, HEATMAP_COLUMNS.index(detector.score_column)]
        compared = ((scores, detector.threshold), (heatmaps, detector.pixel_threshold))
        decisions = (values > threshold for values, threshold in compared if not math.isnan(threshold))
        return scores.float(), heatmaps, *decisions


def output_names(detector: Detector) -> list[str]:
    """Return the names of what `DetectorGraph` returns."""
    thresholds = {"anomalous": detector.threshold, "mask": detector.pixel_threshold}
    return ["score", "heatmap", *(name for name, threshold in thresholds.items() if not math.isnan(threshold))]


def exported_program(detector: Detector) -> torch.export.ExportedProgram:
    """Return the detector, on the CPU, as a traced program for batches of any size."""
    images = detector.settings.images
    example = torch.zeros(2, images.channels, images.load_size, images.load_size, dtype=torch.uint8)
    with torch.no_grad():
        graph = DetectorGraph(detector).eval()
        return torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("N")},), strict=False)
