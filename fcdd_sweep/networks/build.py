"""Torch modules from the table of networks, and Gaussian upsampling of what they give."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from fcdd_sweep.config.errors import InputError, Problem, closest
from fcdd_sweep.metrics.upsampling import upsampling_weights
from fcdd_sweep.networks.receptive_field import ReceptiveField, check_size, receptive_field
from fcdd_sweep.networks.registry import NETWORKS, Conv, Layer, Leaky, Norm, Pool

NORM_EPS = 1e-4
LEAKY_SLOPE = 0.01


class FCDDNet(nn.Module):
    """A fully convolutional network whose output cells know what they see.

    Attributes:
        in_shape: channels, height and width of its images.
        receptive_field: size, jump, shift of an output cell in input pixels, and the number of cells along the width.
    """

    def __init__(self, layers: nn.Sequential, in_shape: tuple[int, int, int], field: ReceptiveField) -> None:
        super().__init__()
        self.layers = layers
        self.in_shape = in_shape
        self.receptive_field = field

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to (N, 1, U, V) output cells, before any distance is taken."""
        return self.layers(images)

    def upsample(self, maps: Tensor, std: float | None = None) -> Tensor:
        """(N, 1, U, V) anomaly maps to (N, 1, H, W) heatmaps; see `metrics.upsampling`. Gradients pass through.

        Args:
            maps: on any device; half precision is raised to float32, since the weights span many magnitudes.
            std: standard deviation of the Gaussian in pixels; None: by the receptive field's size.
        """
        field = (self.receptive_field.size, self.receptive_field.jump, self.receptive_field.shift)
        kind = torch.promote_types(maps.dtype, torch.float32)
        rows = _weights(field, maps.shape[-2], self.in_shape[1], std, maps.device, kind)
        columns = _weights(field, maps.shape[-1], self.in_shape[2], std, maps.device, kind)
        with torch.autocast(maps.device.type, enabled=False):
            return rows @ (maps.to(kind) @ columns.mT)


@lru_cache(maxsize=64)
def _weights(
    field: tuple[int, int, float], cells: int, out_size: int, std: float | None, device: torch.device, kind: torch.dtype
) -> Tensor:
    """`upsampling_weights` on a device, sent there once. Never an inference tensor, as later calls may train."""
    with torch.inference_mode(mode=False):
        return torch.tensor(upsampling_weights(field, cells, out_size, std), dtype=kind, device=device)


def build_network(
    name: str,
    in_shape: tuple[int, int, int],
    bias: bool = True,  # noqa: FBT001, FBT002
    seed: int | None = None,
) -> FCDDNet:
    """A network of the table, on the CPU, with torch's default initialisation.

    Args:
        name: one of `networks.registry.NETWORKS`.
        in_shape: channels, height and width of the images.
        bias: biases in convolutions and affine batch norms.
        seed: the weights are drawn from this seed alone and no global generator moves; None: from torch's global one.

    Raises:
        InputError: an unknown network, or images too small for it.
    """
    _check(name, in_shape)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        layers = nn.Sequential(*_modules(NETWORKS[name].layers, in_shape[0], bias=bias))
    return FCDDNet(layers, in_shape, receptive_field(name, in_shape[2]))


def _check(name: str, in_shape: tuple[int, int, int]) -> None:
    if name not in NETWORKS:
        raise InputError(
            Problem("network.name", f"unknown network '{name}'", ", ".join(NETWORKS), closest(name, NETWORKS))
        )
    for size in in_shape[1:]:
        if misfit := check_size(name, size):
            raise InputError(Problem("images.size", misfit))


def _modules(layers: tuple[Layer, ...], channels: int, *, bias: bool) -> Iterator[nn.Module]:
    """One module a layer; `channels` follows the data through the network."""
    for layer in layers:
        match layer:
            case Conv(kernel, out_channels):
                yield nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=bias)
                channels = out_channels
            case Pool(kernel, stride, padding):
                yield nn.MaxPool2d(kernel, stride, padding)
            case Norm():
                yield nn.BatchNorm2d(channels, eps=NORM_EPS, affine=bias)
            case Leaky():
                yield nn.LeakyReLU(LEAKY_SLOPE)
