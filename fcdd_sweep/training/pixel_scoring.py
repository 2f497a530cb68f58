"""Pixel metrics of a detector on its test set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.metrics.pixel_columns import (
    DEFECT_COLUMNS,
    FULL_METRICS,
    IMAGE_COLUMNS,
    OWN_METRICS,
    PixelResult,
    full_as_measured,
    full_metrics,
    resolution_text,
    undefined,
)
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.pixel_images import PixelImages


@dataclass(frozen=True)
class Explained:
    """How well the heatmaps of a test set show where its defects are; undefined throughout without ground truth.

    Attributes:
        pixels: the images; None without ground-truth maps.
        result: what their heatmaps measure at the network's resolution; None without ground-truth maps.
        metrics: columns of `metrics.parquet` that do not depend on decisions.
    """

    pixels: PixelImages | None
    result: PixelResult | None
    metrics: dict[str, Any]

    @classmethod
    def of(cls, pixels: PixelImages | None, detector: Detector, maps: Tensor) -> Explained:
        """Measure the heatmaps of (t, 1, U, V) anomaly maps of all test images."""
        nothing: dict[str, Any] = undefined(("pixel_auroc", "pixel_ap", *OWN_METRICS, *FULL_METRICS))
        nothing |= {"n_test_maps": 0, "n_test_regions": 0, "pixel_resolution": None, "full_resolution": None}
        if pixels is None:
            return cls(None, None, nothing)
        heatmaps = detector.heatmaps(maps[pixels.image])
        result = PixelResult.of(heatmaps.flatten(1).numpy(), pixels.truth)
        metrics = result.metrics()
        known = {
            "n_test_maps": len(pixels.image),
            "n_test_regions": len(pixels.truth.regions.area),
            "pixel_resolution": resolution_text(np.array([[pixels.side, pixels.side]])),
            "full_resolution": resolution_text(pixels.truth.size),
        }
        return cls(pixels, result, metrics | _full(pixels, heatmaps, metrics) | known)

    def decided(self, pixel_threshold: float) -> dict[str, float]:
        """Return the columns of `metrics.parquet` that depend on the pixel threshold; NaN without one."""
        return {"pixel_f1": math.nan} if self.result is None else self.result.decided(pixel_threshold)

    def defect(self, name: str) -> dict[str, float]:
        """Return the columns of `defects.parquet` on the heatmaps of a defect type."""
        if self.pixels is None or self.result is None:
            return undefined(("pixel_auroc", *DEFECT_COLUMNS))
        return self.result.defect(self.pixels.defects.index(name) + 1)

    def image_columns(self, tested: int, rows: int) -> dict[str, list[float | None]]:
        """Return columns of `scores.parquet` of so many rows, of which the first `tested` are test images."""
        found: dict[str, list[float | None]] = {}
        for name in IMAGE_COLUMNS:
            values = np.full(tested, np.nan)
            if self.pixels is not None and self.result is not None:
                values[self.pixels.image] = self.result.image_columns()[name]
            known = [None if math.isnan(value) else value for value in values.tolist()]
            found[name] = [*known, *[None] * (rows - tested)]
        return found


def _full(pixels: PixelImages, heatmaps: Tensor, metrics: dict[str, float]) -> dict[str, float]:
    """Return the columns `FULL_METRICS`: of heatmaps enlarged by bilinear interpolation to the size of each map.

    Args:
        pixels: P images.
        heatmaps: (P, 1, S, S) float32 on the CPU.
        metrics: at the network's resolution; the same where the maps have it, too.
    """
    if pixels.is_full:
        return full_as_measured(metrics)
    sizes = pixels.truth.size.tolist()
    return full_metrics((_enlarged(each, size) for each, size in zip(heatmaps, sizes, strict=True)), pixels.full)


def _enlarged(heatmap: Tensor, size: list[int]) -> npt.NDArray[np.float32]:
    enlarged: npt.NDArray[np.float32] = torch.nn.functional.interpolate(
        heatmap[None], size=tuple(size), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    return enlarged
