"""The methods: what each minimizes, and how each scores an image and its pixels.

`fcdd` is the method itself; `hsc`, the hypersphere classifier, and `ae`, the autoencoder, are its baselines.
Source: Liznerski et al., Explainable Deep One-Class Classification, ICLR 2021 (arXiv:2007.01760).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcdd_sweep.training.batches import Batch
from fcdd_sweep.training.losses import (
    anomalous_loss,
    fcdd_label_loss,
    fcdd_map_loss,
    hypersphere_distance,
    image_scores,
    pseudo_huber,
    reconstruction_error,
)


class Detection(NamedTuple):
    """What a method says of images.

    Attributes:
        maps: (N, 1, U, V) float32, cells of the network (`fcdd`) or pixels of its input; higher is more anomalous.
        scores: (N,) float64, one an image.
    """

    maps: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Method:
    """A method as functions of its network; the network is the one that `networks.build.network_of` gives for it.

    Attributes:
        losses: network, its outputs (float32), the batch, the upsampling Gaussian's std in pixels -> (N,) losses.
        detect: network in evaluation mode, inputs (N, C, S, S) -> `Detection` on the inputs' device.
        by_cells: whether maps are cells with a receptive field, to be upsampled; otherwise they are pixels.
    """

    losses: Callable[[Any, Tensor, Batch, float | None], Tensor]
    detect: Callable[[Any, Tensor], Detection]
    by_cells: bool = False


def _fcdd_losses(network: Any, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    anomaly_maps = pseudo_huber(outputs)
    if batch.gt_maps is None:
        return fcdd_label_loss(anomaly_maps, batch.labels)
    return fcdd_map_loss(network.upsample(anomaly_maps, std), batch.gt_maps)


def _fcdd_detect(network: Any, inputs: Tensor) -> Detection:
    maps = pseudo_huber(network(inputs)).float()
    return Detection(maps, image_scores(wide(maps)))


def _hsc_losses(network: Any, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    distance = hypersphere_distance(outputs)
    return torch.where(batch.labels == 0, distance, anomalous_loss(distance))


def _hsc_detect(network: Any, inputs: Tensor) -> Detection:
    """A pixel's score is the size of the image score's gradient there, summed over channels."""
    with torch.enable_grad():
        watched = inputs.detach().requires_grad_()
        distance = hypersphere_distance(network(watched).float())
        (gradient,) = torch.autograd.grad(distance.sum(), watched)
    return Detection(gradient.abs().sum(1, keepdim=True), wide(distance.detach()))


def _ae_losses(network: Any, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    """Every sample is to be rebuilt, whatever its label: train on nominal images alone."""
    return image_scores(reconstruction_error(outputs, batch.inputs))


def _ae_detect(network: Any, inputs: Tensor) -> Detection:
    maps = reconstruction_error(network(inputs).float(), inputs)
    return Detection(maps, image_scores(wide(maps)))


def wide(values: Tensor) -> Tensor:
    """float64, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


METHODS: dict[str, Method] = {
    "fcdd": Method(_fcdd_losses, _fcdd_detect, by_cells=True),
    "hsc": Method(_hsc_losses, _hsc_detect),
    "ae": Method(_ae_losses, _ae_detect),
}
