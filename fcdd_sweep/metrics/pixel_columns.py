"""Columns of the tables on heatmaps as explanations: of a trial, of its defect types and of its images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics import pixel_figures as figures
from fcdd_sweep.metrics.pixel_figures import PRO_LIMITS, SIZES, ImageFigures
from fcdd_sweep.metrics.pixel_order import RankedPositives, SortedCells, pair_share, rank_pixels
from fcdd_sweep.metrics.pixel_truth import FullTruth, PixelTruth
from fcdd_sweep.metrics.ranking import FloatArray

_EXPLAINED = ("pointing_game", "heat_in_mask")
OWN_METRICS = (
    *("pixel_f1_max_oracle", "pixel_precision_at_95_recall"),
    *(f"pixel_{name}_{limit}" for name in ("aupro", "spro") for limit in PRO_LIMITS),
    *("pixel_aupimo", "pixel_aupimo_median", "pixel_aupimo_low", "pixel_aupimo_high"),
    *(f"{name}{size}" for name in _EXPLAINED for size in ("", *(f"_{each}" for each in SIZES))),
)
"""Columns of `metrics.parquet` at the network's resolution that leaves of earlier versions lack."""
FULL_METRICS = tuple(
    f"pixel_{name}_full" for name in ("auroc", "ap", "f1_max_oracle", "aupro_30", "aupro_05", "aupimo")
)
"""Columns of `metrics.parquet` at the resolution of the ground-truth maps."""
IMAGE_COLUMNS = ("aupimo", "defect_share", "pointing_hit", "heat_in_mask")
"""Columns of `scores.parquet` on the heatmap of a test image."""
DEFECT_COLUMNS = (
    *("pixel_ap", "pixel_aupro_30", "pixel_aupro_05", "pixel_spro_30", "pixel_spro_05", "pixel_aupimo"),
    *(*_EXPLAINED, "defect_share"),
)
"""Columns of `defects.parquet` that leaves of earlier versions lack."""


@dataclass(frozen=True)
class PixelResult:
    """The heatmaps of the P images of the pixel metrics, measured at the network's resolution.

    Attributes:
        heat: (P, cells) float32.
        cells: the same in order, with their ground truth.
    """

    heat: npt.NDArray[np.float32]
    cells: SortedCells

    @classmethod
    def of(cls, heat: npt.NDArray[np.float32], truth: PixelTruth) -> PixelResult:
        return cls(heat, SortedCells(heat, truth))

    @property
    def truth(self) -> PixelTruth:
        return self.cells.truth

    @cached_property
    def ranked(self) -> RankedPositives:
        return self.cells.ranked()

    @cached_property
    def image_figures(self) -> ImageFigures:
        return figures.image_figures(self.heat, self.truth)

    @cached_property
    def aupimo(self) -> FloatArray:
        return figures.image_overlap(self.ranked, len(self.heat))

    def metrics(self) -> dict[str, float]:
        """Return `pixel_auroc`, `pixel_ap` and the columns `OWN_METRICS`."""
        ranking, ranked = self.cells.ranking, self.ranked
        by_type = [self._overlaps(self.cells.ranked(group)) for group in self._groups] if self._has_saturation else []
        found = {"pixel_auroc": ranking.auroc(), "pixel_ap": ranking.average_precision()}
        found |= {
            "pixel_f1_max_oracle": figures.f1_max(ranked),
            "pixel_precision_at_95_recall": figures.precision_at_recall(ranked),
        }
        for name, limit in PRO_LIMITS.items():
            found[f"pixel_aupro_{name}"] = figures.region_overlap(ranked, limit)
            found[f"pixel_spro_{name}"] = _mean([each[f"pixel_spro_{name}"] for each in by_type])
        return found | _distribution(self.aupimo) | self._explained()

    def decided(self, pixel_threshold: float) -> dict[str, float]:
        """Return `pixel_f1`, of the pixels above a threshold; NaN without one."""
        if math.isnan(pixel_threshold) or not self.cells.ranking.is_defined:
            return {"pixel_f1": math.nan}
        return {"pixel_f1": figures.f1_at(self.cells.passed(pixel_threshold), self.cells.ranking.positives)}

    def defect(self, group: int) -> dict[str, float]:
        """Return `pixel_auroc` and the columns `DEFECT_COLUMNS` of a defect type."""
        own, ranked = self.truth.group == group, self.cells.ranked(group)
        shares, hits, heats = (values[own] for values in self.image_figures)
        return {
            "pixel_auroc": self.cells.defect_auroc(group),
            "pixel_ap": figures.average_precision(ranked),
            **self._overlaps(ranked),
            "pixel_aupimo": _mean(self.aupimo[own]),
            "pointing_game": _mean(hits),
            "heat_in_mask": _mean(heats),
            "defect_share": _mean(shares),
        }

    def image_columns(self) -> dict[str, FloatArray]:
        """Return the columns `IMAGE_COLUMNS`, (P,) each; NaN for images without anomalous pixels."""
        shares, hits, heats = self.image_figures
        return dict(zip(IMAGE_COLUMNS, (self.aupimo, shares, hits, heats), strict=True))

    @property
    def _groups(self) -> list[int]:
        return np.unique(self.truth.group[self.truth.group > 0]).tolist()

    @property
    def _has_saturation(self) -> bool:
        return self.truth.has_saturation

    def _overlaps(self, ranked: RankedPositives) -> dict[str, float]:
        found = {f"pixel_aupro_{name}": figures.region_overlap(ranked, limit) for name, limit in PRO_LIMITS.items()}
        for name, limit in PRO_LIMITS.items():
            spro = figures.region_overlap(ranked, limit, saturated=True) if self._has_saturation else math.nan
            found[f"pixel_spro_{name}"] = spro
        return found

    def _explained(self) -> dict[str, float]:
        """Return pointing game and share of heat over all images with a defect, and by its size."""
        share, hits, heats = self.image_figures
        sizes = np.array(["" if math.isnan(each) else figures.size_of(each) for each in share], dtype=object)
        found = {}
        for name, values in zip(_EXPLAINED, (hits, heats), strict=True):
            found[name] = _mean(values)
            found |= {f"{name}_{size}": _mean(values[sizes == size]) for size in SIZES}
        return found


def full_metrics(heatmaps: Iterable[npt.NDArray[np.float32]], truth: FullTruth) -> dict[str, float]:
    """Return the columns `FULL_METRICS` of heatmaps at the size of their ground-truth maps; see `rank_pixels`."""
    ranked = rank_pixels(heatmaps, truth)
    values = (
        pair_share(ranked),
        figures.average_precision(ranked),
        figures.f1_max(ranked),
        *(figures.region_overlap(ranked, limit) for limit in PRO_LIMITS.values()),
        _mean(figures.image_overlap(ranked, len(truth.inside))),
    )
    return dict(zip(FULL_METRICS, values, strict=True))


def full_as_measured(metrics: dict[str, float]) -> dict[str, float]:
    """Return the columns `FULL_METRICS` where each cell of the heatmaps is one pixel of the ground truth."""
    return {name: metrics[name.removesuffix("_full")] for name in FULL_METRICS}


def resolution_text(sizes: npt.NDArray[np.int64]) -> str:
    """Return `900x900`, height and width in pixels, or `700x700 to 1024x1024` for images of several sizes."""
    ordered = sorted(map(tuple, np.unique(sizes, axis=0).tolist()), key=lambda size: size[0] * size[1])
    return " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in (ordered[0], ordered[-1])))


def undefined(columns: Sequence[str]) -> dict[str, Any]:
    """Return columns without a value."""
    return dict.fromkeys(columns, math.nan)


def _distribution(aupimo: FloatArray) -> dict[str, float]:
    known = aupimo[~np.isnan(aupimo)]
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist() if len(known) else (math.nan,) * 3
    return {
        "pixel_aupimo": _mean(known),
        "pixel_aupimo_median": median,
        "pixel_aupimo_low": low,
        "pixel_aupimo_high": high,
    }


def _mean(values: Sequence[float] | FloatArray) -> float:
    """Return the mean of the defined values; NaN without any."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan
