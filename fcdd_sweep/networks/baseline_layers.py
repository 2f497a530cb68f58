"""Dense layers and decoders of the baselines on a backbone, in the style of the hand-made ones. Needs no torch."""

from __future__ import annotations

from math import ceil

from fcdd_sweep.networks.layers import AveragePool, Deconv, Dense, Enlarge, Flatten, Layer, Leaky, Norm, View

CODE = 64
_LARGEST_SIDE = 7  # of the map before the first, and after the last dense layer, as in CNN224 and AE224
_WIDEST, _NARROWEST = 256, 32


def dense_layers(height: int, width: int) -> tuple[Layer, ...]:
    """From a backbone's map of that size to a code, as behind `CNN32`; a large map is averaged to 7x7 first."""
    side = min(_LARGEST_SIDE, height, width)
    return (AveragePool(side), Flatten(), Dense(512), Norm(), Leaky(), Dense(CODE))


def decoder_to(height: int, width: int) -> tuple[Layer, ...]:
    """From the code to an image of any size: a map of at most 7x7 that doubles, as in `AE32`, until it is as large.

    No sigmoid at the end: normalised images have values beyond 0 and 1.
    """
    sizes = _halved(height, width)
    channels = [max(_NARROWEST, _WIDEST >> step) for step in range(len(sizes))]
    layers: list[Layer] = [Norm(), Leaky(), Dense(channels[0] * sizes[0][0] * sizes[0][1])]
    layers += [Norm(), View(channels[0], *sizes[0]), Leaky()]
    for size, given in zip(sizes[1:-1], channels[1:-1], strict=True):
        layers += [Enlarge(*size), Deconv(3, given), Norm(), Leaky()]
    return (*layers, Enlarge(*sizes[-1]), Deconv(3, None))


def _halved(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from at most 7x7 up to the image's, at least one step, each about twice the one before."""
    sizes = [(height, width)]
    while len(sizes) < 2 or max(sizes[0]) > _LARGEST_SIDE:
        sizes.insert(0, (ceil(sizes[0][0] / 2), ceil(sizes[0][1] / 2)))
    return sizes
