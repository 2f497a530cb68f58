"""Which networks there are and what they are made of. Needs no torch; `networks.build` makes modules of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """Convolution with stride 1 that keeps the size of its input."""

    kernel: int
    channels: int


@dataclass(frozen=True)
class Pool:
    """Maximum pooling."""

    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Norm:
    """Batch norm over channels."""


@dataclass(frozen=True)
class Leaky:
    """Leaky ReLU."""


Layer = Conv | Pool | Norm | Leaky


@dataclass(frozen=True)
class NetworkInfo:
    """What is known of a network before it is built.

    Attributes:
        title: one line for `list`.
        input_size: side in pixels of the images it was designed for; others work, see `check_size`.
        layers: from input to output, the only description of the network.
    """

    title: str
    input_size: int
    layers: tuple[Layer, ...]


def _block(kernel: int, channels: int, *then: Pool) -> tuple[Layer, ...]:
    return (Conv(kernel, channels), Norm(), Leaky(), *then)


HALVE = Pool(2, stride=2, padding=0)
HALVE_WIDE = Pool(3, stride=2, padding=1)
TO_MAP = Conv(1, 1)

NETWORKS: dict[str, NetworkInfo] = {
    "FCDD_CNN28": NetworkInfo(
        "two convolutions, 8 and 16 channels; quick try-outs at 28 px",
        input_size=28,
        layers=(*_block(5, 8, HALVE), Conv(5, 16), HALVE, TO_MAP),
    ),
    "FCDD_CNN28_W": NetworkInfo(
        "two convolutions of 128 channels; the paper's network for Fashion-MNIST",
        input_size=28,
        layers=(*_block(5, 128, HALVE), Conv(5, 128), HALVE, TO_MAP),
    ),
    "FCDD_CNN32_S": NetworkInfo(
        "three 3x3 convolutions, 32 to 128 channels; small and quick at 32 px",
        input_size=32,
        layers=(*_block(3, 32, HALVE), *_block(3, 64, HALVE), Conv(3, 128), TO_MAP),
    ),
    "FCDD_CNN224": NetworkInfo(
        "five convolutions, 8 to 128 channels; photographs without pretrained weights",
        input_size=224,
        layers=(
            *_block(5, 8, HALVE_WIDE),
            *_block(5, 32, HALVE_WIDE),
            *_block(3, 64),
            *_block(3, 128, HALVE_WIDE),
            Conv(3, 128),
            TO_MAP,
        ),
    ),
}
