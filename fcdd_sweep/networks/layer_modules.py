"""Torch modules of layers, one module per layer."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor, nn

from fcdd_sweep.networks.layers import (
    AveragePool,
    Conv,
    Deconv,
    Dense,
    Double,
    Dropout,
    Enlarge,
    Flatten,
    LayerSpec,
    Leaky,
    MaxPool,
    Norm,
    Relu,
    Sigmoid,
    UnusedNorm,
    View,
)

LEAKY_SLOPE = 0.01  # torch's default, as in the authors' program
TensorShape = tuple[int, ...]


class _Unused(nn.BatchNorm2d):
    """A batch norm with parameters that is the identity."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps


class _AveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` for maps of one size, with deterministic gradients on a GPU."""

    rows: Tensor
    columns: Tensor

    def __init__(self, sides: TensorShape, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("rows", _averages(sides[0], side), persistent=False)
        self.register_buffer("columns", _averages(sides[1], side), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Average (N, C, H, W) maps to (N, C, side, side)."""
        if maps.shape[-2:] == (self.side, self.side):
            return maps
        return self.rows @ maps @ self.columns.mT


def _averages(cells: int, side: int) -> Tensor:
    """Return (side, cells) weights of cells in averages; neighboring averages may share cells, as in torch."""
    cell, start = torch.arange(cells), torch.arange(side)[:, None] * cells
    inside = (cell >= start // side) & (cell < (start + cells + side - 1) // side)
    return inside / inside.sum(dim=1, keepdim=True)


def build_layers(
    layers: Iterable[LayerSpec], shape: TensorShape, image_channels: int, *, bias: bool
) -> tuple[nn.Sequential, TensorShape]:
    """Build modules in order, with torch's default initialization unless the layer names another one.

    Args:
        layers: from input to output.
        shape: of the input without the batch: (C, H, W), or (features,).
        image_channels: output channels of the layer that produces an image.
        bias: biases in convolutions and dense layers, and affine batch norms.
    Returns:
        The modules, and the shape of their output without the batch. It is tracked only as far as dense layers need
        it: behind a decoder, height and width are not meaningful.
    """
    modules = []
    for layer in layers:
        module, shape = _build_layer(layer, shape, image_channels, bias=bias)
        modules.append(module)
    return nn.Sequential(*modules), shape


def _build_layer(
    layer: LayerSpec, shape: TensorShape, image_channels: int, *, bias: bool
) -> tuple[nn.Module, TensorShape]:
    channels, sides = shape[0], shape[1:]
    match layer:
        case Conv(kernel, out):
            return nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=bias), (out, *sides)
        case MaxPool(kernel, stride, padding):
            left = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
            return nn.MaxPool2d(kernel, stride, padding), (channels, *left)
        case Norm(eps):
            kind = nn.BatchNorm2d if sides else nn.BatchNorm1d
            return kind(channels, eps=eps, affine=bias), shape
        case UnusedNorm():
            return _Unused(channels, eps=Norm.eps, affine=bias), shape
        case AveragePool(side):
            return _AveragePool(sides, side), (channels, side, side)
        case Flatten():
            return nn.Flatten(), (prod(shape),)
        case Dense(features):
            return nn.Linear(channels, features, bias=bias), (features,)
        case View(out, height, width):
            return nn.Unflatten(1, (out, height, width)), (out, height, width)
        case Deconv():
            module = _deconv(layer, channels, image_channels, bias=bias)
            return module, (module.out_channels, *sides)
        case _:
            return _plain(layer), shape


def _deconv(layer: Deconv, channels: int, image_channels: int, *, bias: bool) -> nn.ConvTranspose2d:
    out = image_channels if layer.channels is None else layer.channels
    padding = layer.kernel // 2 if layer.padding is None else layer.padding
    module = nn.ConvTranspose2d(channels, out, layer.kernel, padding=padding, bias=bias)
    if layer.xavier:
        nn.init.xavier_uniform_(module.weight, gain=nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE))
    return module


def _plain(layer: LayerSpec) -> nn.Module:
    """Return the module of a layer that changes neither channels nor features."""
    match layer:
        case Leaky():
            return nn.LeakyReLU(LEAKY_SLOPE)
        case Relu():
            return nn.ReLU()
        case Dropout():
            return nn.Dropout(0.5)
        case Double():
            return nn.Upsample(scale_factor=2)
        case Enlarge(height, width):
            return nn.Upsample(size=(height, width))
        case Sigmoid():
            return nn.Sigmoid()
        case _:
            raise TypeError(f"no torch module is defined for layer {layer}")


@torch.no_grad()
def init_as_vgg(modules: nn.Module) -> None:
    """Draw the weights again with the distributions of `torchvision.models.vgg11_bn`."""
    for module in modules.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
