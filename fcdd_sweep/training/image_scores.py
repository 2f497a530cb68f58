"""The score of an image from its anomaly map."""

from __future__ import annotations

import torch
from torch import Tensor

from fcdd_sweep.config.fields import TOP_SHARES


def image_scores(anomaly_maps: Tensor) -> Tensor:
    """Return (N,) anomaly scores of (N, 1, U, V) anomaly maps: their mean; higher is more anomalous."""
    return anomaly_maps.flatten(1).mean(1)


def heatmap_scores(heatmaps: Tensor) -> Tensor:
    """Return (N, 1 + shares) float64 scores of (N, 1, S, S) heatmaps: the largest value, then by share of `TOP_SHARES`
    the mean over that share of the pixels, those with the largest values, at least one."""
    flat = heatmaps.flatten(1)
    counts = [max(1, round(share * flat.shape[1])) for share in TOP_SHARES]
    largest = flat.topk(max(counts), dim=1).values.double()
    sums = largest.cumsum(1)
    return torch.stack([largest[:, 0], *(sums[:, count - 1] / count for count in counts)], dim=1)
