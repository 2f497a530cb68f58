"""The score of an image from its anomaly map."""

from __future__ import annotations

from torch import Tensor


def image_scores(anomaly_maps: Tensor) -> Tensor:
    """Return (N,) anomaly scores of (N, 1, U, V) anomaly maps: their mean; higher is more anomalous."""
    return anomaly_maps.flatten(1).mean(1)
