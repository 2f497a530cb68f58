"""Losses and scores of FCDD and its baselines as pure functions.

Source: Liznerski et al., Explainable Deep One-Class Classification, ICLR 2021 (arXiv:2007.01760), sections 3 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fcdd_sweep.training.image_scores import image_scores

FLOOR = 1e-31
"""Added inside the logarithm, as in the published loss: bounds the loss of an anomaly with distance 0 at 71.4."""


def pseudo_huber(outputs: Tensor) -> Tensor:
    """Return distances from the center, element-wise: sqrt(f^2 + 1) - 1.

    Args:
        outputs: network outputs, any shape, float.
    Returns:
        The same shape, >= 0. Computed as f^2 / (sqrt(f^2 + 1) + 1), which does not cancel near 0.
    Source: the pseudo-Huber loss of the paper, section 3.
    """
    square = outputs.square()
    return square / ((square + 1).sqrt() + 1)


def anomalous_loss(distance: Tensor) -> Tensor:
    """Return -log(1 - exp(-a) + FLOOR), element-wise; large near 0, so anomalies are pushed away.

    Source: the paper, section 3, the anomalous term of the loss; FLOOR as in the authors' program.
    Departure: 1 - exp(-a) is computed as -expm1(-a), exact in float32 also below a = 1e-2.
    """
    return -torch.log(-torch.expm1(-distance) + FLOOR)


def hypersphere_distance(outputs: Tensor) -> Tensor:
    """Map (N, D) outputs of a hypersphere classifier to (N,) distances from the center: sqrt(|f|^2 + 1) - 1.

    Source: the paper, section 3, the hypersphere classifier.
    """
    square = outputs.square().sum(1)
    return square / ((square + 1).sqrt() + 1)


def reconstruction_error(rebuilt: Tensor, images: Tensor) -> Tensor:
    """Return the squared error of each pixel, averaged over channels: (N, C, H, W) twice to (N, 1, H, W)."""
    return (rebuilt - images).square().mean(1, keepdim=True)


def fcdd_label_loss(anomaly_maps: Tensor, labels: Tensor) -> Tensor:
    """Return the FCDD loss per image from image labels: nominal maps are pulled to zero, anomalous ones pushed away.

    Args:
        anomaly_maps: (N, 1, U, V) float, distances >= 0.
        labels: (N,) integer, 0 nominal and 1 anomalous.
    Returns:
        (N,) float, unreduced.
    Raises:
        ValueError: more than one channel, or different numbers of maps and labels.
    Source: the paper, section 3, the FCDD objective.
    Departure: the authors' program treats every batch with a single label as nominal; here the labels decide.
    """
    if anomaly_maps.ndim != 4 or anomaly_maps.shape[1] != 1 or len(labels) != len(anomaly_maps):
        raise ValueError(f"expected (N, 1, U, V) maps and N labels, got {anomaly_maps.shape} and {labels.shape}")
    distance = image_scores(anomaly_maps)
    return torch.where(labels == 0, distance, anomalous_loss(distance))


def fcdd_map_loss(heatmaps: Tensor, gt_maps: Tensor) -> Tensor:
    """Return the FCDD loss per image from ground-truth maps: defect-free pixels to zero, defective ones pushed away.

    Args:
        heatmaps: (N, 1, H, W) float, upsampled distances >= 0.
        gt_maps: (N, 1, H, W), 1 where a pixel is anomalous, else 0.
    Returns:
        (N,) float, unreduced; both means run over all pixels of the image.
    Raises:
        ValueError: shapes differ.
    Source: the paper, section 4, semi-supervised FCDD.
    """
    if heatmaps.shape != gt_maps.shape:
        raise ValueError(f"heatmaps {heatmaps.shape} and ground-truth maps {gt_maps.shape} differ in shape")
    gt_maps = gt_maps.to(heatmaps.dtype)
    nominal = (heatmaps * (1 - gt_maps)).flatten(1).mean(1)
    pushed = anomalous_loss((heatmaps * gt_maps).flatten(1).mean(1))
    return nominal + torch.where(gt_maps.flatten(1).amax(1) > 0, pushed, 0.0)
