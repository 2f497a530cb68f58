"""The methods: what each minimizes, and how each scores an image and its pixels.

`fcdd` is the method itself; `hsc`, the hypersphere classifier, and `ae`, the autoencoder, are its baselines.
Source: Liznerski et al., Explainable Deep One-Class Classification, ICLR 2021 (arXiv:2007.01760).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fcdd_sweep.networks.registry import MethodName
from fcdd_sweep.training.compose import Batch
from fcdd_sweep.training.image_scores import image_scores
from fcdd_sweep.training.losses import (
    anomalous_loss,
    fcdd_label_loss,
    fcdd_map_loss,
    hypersphere_distance,
    pseudo_huber,
    reconstruction_error,
)
from fcdd_sweep.training.network import DetectionNetwork, outputs_of


class Detection(NamedTuple):
    """Anomaly maps and scores of images; higher is more anomalous.

    Attributes:
        maps: (N, 1, U, V) float32 over cells of the network (`fcdd`), or (N, 1, S, S) over pixels of its input.
        scores: (N,) float64, one per image.
    """

    maps: Tensor
    scores: Tensor

    def __repr__(self) -> str:
        height, width = self.maps.shape[2:]
        return f"Detection({len(self.scores)} image{'' if len(self.scores) == 1 else 's'}, maps {height} x {width})"


@dataclass(frozen=True)
class Method:
    """A method as functions of its network, which `networks.build.network_of` builds for it.

    Attributes:
        losses: network, its outputs (float32), the batch, the upsampling Gaussian's std in pixels -> (N,) losses.
        detect: network in evaluation mode, inputs (N, C, S, S) -> `Detection` on the inputs' device.
        by_cells: whether maps are over cells with a receptive field, to be upsampled; otherwise over pixels.
    """

    losses: Callable[[DetectionNetwork, Tensor, Batch, float | None], Tensor]
    detect: Callable[[DetectionNetwork, Tensor], Detection]
    by_cells: bool = False


def _fcdd_losses(network: DetectionNetwork, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    """Return FCDD losses by labels, or by ground-truth maps where the batch has them."""
    anomaly_maps = pseudo_huber(outputs)
    if batch.gt_maps is None:
        return fcdd_label_loss(anomaly_maps, batch.labels)
    return fcdd_map_loss(network.upsample(anomaly_maps, std), batch.gt_maps)


def _fcdd_detect(network: DetectionNetwork, inputs: Tensor) -> Detection:
    maps = pseudo_huber(outputs_of(network, inputs)).float()
    return Detection(maps, image_scores(wide(maps)))


def _hsc_losses(network: DetectionNetwork, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    distance = hypersphere_distance(outputs)
    return torch.where(batch.labels == 0, distance, anomalous_loss(distance))


def _hsc_detect(network: DetectionNetwork, inputs: Tensor) -> Detection:
    """Return image scores, and as maps the magnitude of their gradient at each pixel, summed over channels.

    Source: the gradient heatmaps of the paper's baselines, section 4.
    """
    with torch.enable_grad():
        tracked = inputs.detach().requires_grad_()
        distance = hypersphere_distance(outputs_of(network, tracked).float())
        (gradient,) = torch.autograd.grad(distance.sum(), tracked)
    return Detection(gradient.abs().sum(1, keepdim=True), wide(distance.detach()))


def _ae_losses(network: DetectionNetwork, outputs: Tensor, batch: Batch, std: float | None) -> Tensor:
    """Return reconstruction losses of all samples whatever their label: train on nominal images alone."""
    return image_scores(reconstruction_error(outputs, batch.inputs))


def _ae_detect(network: DetectionNetwork, inputs: Tensor) -> Detection:
    maps = reconstruction_error(outputs_of(network, inputs).float(), inputs)
    return Detection(maps, image_scores(wide(maps)))


def wide(values: Tensor) -> Tensor:
    """Return values as float64, on the CPU for devices without it (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


METHODS: dict[MethodName, Method] = {
    "fcdd": Method(_fcdd_losses, _fcdd_detect, by_cells=True),
    "hsc": Method(_hsc_losses, _hsc_detect),
    "ae": Method(_ae_losses, _ae_detect),
}
