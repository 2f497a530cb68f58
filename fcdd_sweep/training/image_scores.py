"""The score of an image from its anomaly map."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fcdd_sweep.config.fields import TOP_SHARES

_MOST_VALUES = 2**20
"""Values of a heatmap up to which torch finds the largest, which takes 16 bytes a value on a CPU."""


def image_scores(anomaly_maps: Tensor) -> Tensor:
    """Return (N,) anomaly scores of (N, 1, U, V) anomaly maps: their mean; higher is more anomalous."""
    return anomaly_maps.flatten(1).mean(1)


def heatmap_scores(heatmaps: Tensor) -> Tensor:
    """Return (N, 1 + shares) float64 scores of (N, 1, S, S) heatmaps: the largest value, then by share of `TOP_SHARES`
    the mean over that share of the pixels, those with the largest values, at least one."""
    flat = heatmaps.flatten(1)
    counts = [max(1, round(share * flat.shape[1])) for share in TOP_SHARES]
    largest = _largest(flat, max(counts)).double()
    sums = largest.cumsum(1)
    return torch.stack([largest[:, 0], *(sums[:, count - 1] / count for count in counts)], dim=1)


def _largest(flat: Tensor, count: int) -> Tensor:
    """Return the `count` largest values of each row of (N, M) values, in decreasing order."""
    if flat.shape[1] <= _MOST_VALUES or flat.device.type != "cpu" or torch.compiler.is_compiling():
        return flat.topk(count, dim=1).values
    parted = np.partition(flat.numpy(), -count, axis=1)
    return torch.from_numpy(np.sort(parted[:, -count:], axis=1)[:, ::-1].copy())
