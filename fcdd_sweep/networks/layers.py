"""What networks are made of, as plain values. Needs no torch; `networks.build_layers` makes modules of it."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Batch norm that is a part of the network and never used: the published parameter counts have it."""


@dataclass(frozen=True)
class Leaky:
    """Leaky ReLU."""


@dataclass(frozen=True)
class Relu:
    """ReLU."""


@dataclass(frozen=True)
class Dropout:
    """Half of the features are set to zero in training."""


@dataclass(frozen=True)
class AveragePool:
    """Average pooling of a map of any size to `side` x `side`."""

    side: int


@dataclass(frozen=True)
class Flatten:
    """A map as one row of features."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer."""

    features: int


@dataclass(frozen=True)
class View:
    """A row of features as a map."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Double:
    """A map enlarged to twice its sides by nearest neighbor."""


@dataclass(frozen=True)
class Enlarge:
    """A map enlarged to a given size by nearest neighbor."""

    height: int
    width: int


@dataclass(frozen=True)
class Deconv:
    """Transposed convolution with stride 1.

    Attributes:
        kernel: side of the kernel.
        channels: what it gives; None: as many as the image has.
        padding: None: the size of the input is kept.
        xavier: Xavier-uniform weights with the gain of a leaky ReLU in place of torch's default.
    """

    kernel: int
    channels: int | None
    padding: int | None = None
    xavier: bool = True


@dataclass(frozen=True)
class Sigmoid:
    """Values between 0 and 1."""


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
