"""Layers of networks as plain values, and sequences of them for any image size.

Needs no torch; `networks.layer_modules` builds torch modules from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Conv:
    """Convolution with stride 1 that keeps the size of its input."""

    kernel: int
    channels: int


@dataclass(frozen=True)
class MaxPool:
    """Maximum pooling."""

    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Norm:
    """Batch norm over channels, or over features behind a dense layer."""

    eps: float = 1e-4


@dataclass(frozen=True)
class UnusedNorm:
    """Batch norm with parameters that is never applied: the published parameter counts include it."""


@dataclass(frozen=True)
class Leaky:
    """Leaky ReLU."""


@dataclass(frozen=True)
class Relu:
    """ReLU."""


@dataclass(frozen=True)
class Dropout:
    """Dropout of half of the features in training."""


@dataclass(frozen=True)
class AveragePool:
    """Average pooling of a map of any size to `side` x `side`."""

    side: int


@dataclass(frozen=True)
class Flatten:
    """Flattening of a map to one row of features."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer."""

    features: int


@dataclass(frozen=True)
class View:
    """Reshaping of a row of features to a map."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Double:
    """Upsampling to twice the sides by nearest neighbor."""


@dataclass(frozen=True)
class Enlarge:
    """Resizing to a given size by nearest neighbor."""

    height: int
    width: int


@dataclass(frozen=True)
class Deconv:
    """Transposed convolution with stride 1.

    Attributes:
        kernel: side of the kernel.
        channels: of its output; None: as many as the image has.
        padding: of the convolution that it transposes; None: half the kernel, which keeps the size.
        xavier: Xavier-uniform weights with the gain of a leaky ReLU in place of torch's default.
    """

    kernel: int
    channels: int | None
    padding: int | None = None
    xavier: bool = True


@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid."""


LayerSpec = (
    Conv
    | MaxPool
    | Norm
    | UnusedNorm
    | Leaky
    | Relu
    | Dropout
    | AveragePool
    | Flatten
    | Dense
    | View
    | Double
    | Enlarge
    | Deconv
    | Sigmoid
)
CODE = 64
"""Features of a baseline's code behind a backbone, as in the authors' CNN32."""
_LARGEST_SIDE = 7  # of the map before the first and after the last dense layer, as in CNN224 and AE224
_MAX_CHANNELS, _MIN_CHANNELS = 256, 32  # of decoders, as in AE32_LW3K and AE32


def dense_layers(height: int, width: int) -> tuple[LayerSpec, ...]:
    """Return layers from a backbone's map to a code, as in `CNN32`; a large map is averaged to 7x7 first."""
    side = min(_LARGEST_SIDE, height, width)
    return (AveragePool(side), Flatten(), Dense(512), Norm(), Leaky(), Dense(CODE))


def decoder_to(height: int, width: int) -> tuple[LayerSpec, ...]:
    """Return layers from the code to an image of any size: a map of at most 7x7, doubled as in `AE32` up to that size.

    There is no sigmoid at the end: normalized images have values beyond 0 and 1.
    """
    sizes = _halved(height, width)
    channels = [max(_MIN_CHANNELS, _MAX_CHANNELS >> step) for step in range(len(sizes))]
    layers: list[LayerSpec] = [Norm(), Leaky(), Dense(channels[0] * sizes[0][0] * sizes[0][1])]
    layers += [Norm(), View(channels[0], *sizes[0]), Leaky()]
    for size, out in zip(sizes[1:-1], channels[1:-1], strict=True):
        layers += [Enlarge(*size), Deconv(3, out), Norm(), Leaky()]
    return (*layers, Enlarge(*sizes[-1]), Deconv(3, None))


def _halved(height: int, width: int) -> list[tuple[int, int]]:
    """Return sizes from at most 7x7 up to the image's, at least two, each about twice the one before."""
    sizes = [(height, width)]
    while len(sizes) < 2 or max(sizes[0]) > _LARGEST_SIDE:
        sizes.insert(0, (ceil(sizes[0][0] / 2), ceil(sizes[0][1] / 2)))
    return sizes


def fit_decoder(
    head: tuple[LayerSpec, ...], decoder: tuple[LayerSpec, ...], height: int, width: int
) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """Adapt the dense layers and the decoder of an autoencoder of the registry to images of any size.

    The decoder's first map gets the fewest cells that still reach the image's size, and the dense layer before it as
    many features as that map has. Where doubling overshoots, the result is resized by nearest neighbor. For images of
    the designed size the layers stay as they are.
    """
    start = next(i for i, layer in enumerate(decoder) if isinstance(layer, View))
    view = decoder[start]
    assert isinstance(view, View)  # found above
    ups = decoder[start + 1 :]
    rows, columns = _least_start(ups, height), _least_start(ups, width)
    cells = View(view.channels, rows, columns)
    before = _with_features((*head, *decoder[:start]), view.channels * rows * columns)
    exact = (_side_after(ups, rows), _side_after(ups, columns)) == (height, width)
    ending = () if exact else (Enlarge(height, width),)
    return before[: len(head)], (*before[len(head) :], cells, *ups, *ending)


def _with_features(layers: tuple[LayerSpec, ...], features: int) -> tuple[LayerSpec, ...]:
    """Return the layers with `features` outputs of the last dense one."""
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, Dense))
    return (*layers[:last], Dense(features), *layers[last + 1 :])


def _least_start(ups: tuple[LayerSpec, ...], side: int) -> int:
    """Return the smallest side of a map that the layers upsample to at least `side`."""
    start = 1
    while _side_after(ups, start) < side:
        start += 1
    return start


def _side_after(ups: tuple[LayerSpec, ...], side: int) -> int:
    """Return the side of a map of `side` cells after doublings and transposed convolutions."""
    for layer in ups:
        if isinstance(layer, Double):
            side *= 2
        elif isinstance(layer, Deconv) and layer.padding is not None:
            side += layer.kernel - 1 - 2 * layer.padding
    return side
