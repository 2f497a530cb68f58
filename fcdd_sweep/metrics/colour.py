"""From heatmap values to 0..1 for colouring, by quantiles, so that a few extreme pixels do not darken the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
STEPS = 1000


def reference_quantiles(values: FloatArray) -> npt.NDArray[np.float32]:
    """The k-th smallest values for k = int(q * n), q = 0, 0.001, ..., 1; q = 0 gives the minimum.

    Args:
        values: heatmaps of any shape, n finite values together.
    Returns:
        (1001,) float32, not decreasing.
    """
    flat = np.sort(np.asarray(values, np.float32), axis=None)
    # whole numbers: 0.29 * 100 is 28.999... as a float
    k = np.arange(STEPS + 1) * flat.size // STEPS
    quantiles: npt.NDArray[np.float32] = flat[np.maximum(k, 1) - 1]
    return quantiles


def local_range(heatmap: FloatArray, quantile: float) -> tuple[float, float]:
    """Minimum and `quantile` of one heatmap: the values that become 0 and 1."""
    k = max(int(quantile * heatmap.size), 1)
    return float(heatmap.min()), float(np.partition(heatmap, k - 1, axis=None)[k - 1])


def global_range(reference: FloatArray, quantile: float) -> tuple[float, float]:
    """Minimum and `quantile` of the reference set, from its `reference_quantiles`."""
    return float(reference[0]), float(reference[round(quantile * STEPS)])


def normalise(heatmaps: FloatArray, low: float, high: float) -> FloatArray:
    """Subtract `low`, divide by `high - low`, clamp to 0..1.

    Without a range (`high` is `low`), values above `low` are 1, as in the limit of a small range.
    """
    if high <= low:
        return (heatmaps > low).astype(np.float32)
    return np.clip((heatmaps - low) / (high - low), 0.0, 1.0).astype(np.float32)
