"""Torch modules from layers, one module a layer."""

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

LEAKY_SLOPE = 0.01
TensorShape = tuple[int, ...]


class _Unused(nn.BatchNorm2d):
    """A batch norm with parameters that nothing passes through."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps


class _AveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` for maps of one size, whose gradients on a GPU are the same in every run."""

    rows: Tensor
    columns: Tensor

    def __init__(self, sides: TensorShape, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("rows", _averages(sides[0], side), persistent=False)
        self.register_buffer("columns", _averages(sides[1], side), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, side, side)."""
        if maps.shape[-2:] == (self.side, self.side):
            return maps
        return self.rows @ maps @ self.columns.mT


def _averages(cells: int, side: int) -> Tensor:
    """(side, cells): the share of each cell in each average; neighboring averages may have cells in common."""
    cell, start = torch.arange(cells), torch.arange(side)[:, None] * cells
    inside = (cell >= start // side) & (cell < (start + cells + side - 1) // side)
    return inside / inside.sum(dim=1, keepdim=True)


def modules_of(
    layers: Iterable[LayerSpec], shape: TensorShape, image_channels: int, *, bias: bool
) -> tuple[nn.Sequential, TensorShape]:
    """A sequence of modules, with torch's default initialization where a layer says nothing else.

    Args:
        layers: from input to output.
        shape: what goes in: (C, H, W), or (features,).
        image_channels: what a layer gives that gives an image.
        bias: biases in convolutions and dense layers, and affine batch norms.
    Returns:
        The modules, and the shape of what comes out; only as far as a dense layer needs it, so behind decoders its
        height and width mean nothing.
    """
    modules = []
    for layer in layers:
        module, shape = _module(layer, shape, image_channels, bias=bias)
        modules.append(module)
    return nn.Sequential(*modules), shape


def _module(layer: LayerSpec, shape: TensorShape, image_channels: int, *, bias: bool) -> tuple[nn.Module, TensorShape]:
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
    """Layers that change neither channels nor features."""
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
            raise TypeError(f"there is no module for {layer}")


@torch.no_grad()
def draw_as_vgg(modules: nn.Module) -> None:
    """Weights drawn anew as `torchvision.models.vgg11_bn` draws them."""
    for module in modules.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
