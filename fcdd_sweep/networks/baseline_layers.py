"""Dense layers and decoders of the baselines: on a backbone, and the table's at other image sizes. Needs no torch."""

from __future__ import annotations

from math import ceil

from fcdd_sweep.networks.layers import (
    AveragePool,
    Deconv,
    Dense,
    Double,
    Enlarge,
    Flatten,
    LayerSpec,
    Leaky,
    Norm,
    View,
)

CODE = 64
_LARGEST_SIDE = 7  # of the map before the first, and after the last dense layer, as in CNN224 and AE224
_WIDEST, _NARROWEST = 256, 32


def dense_layers(height: int, width: int) -> tuple[LayerSpec, ...]:
    """From a backbone's map of that size to a code, as behind `CNN32`; a large map is averaged to 7x7 first."""
    side = min(_LARGEST_SIDE, height, width)
    return (AveragePool(side), Flatten(), Dense(512), Norm(), Leaky(), Dense(CODE))


def decoder_to(height: int, width: int) -> tuple[LayerSpec, ...]:
    """From the code to an image of any size: a map of at most 7x7 that doubles, as in `AE32`, until it is as large.

    No sigmoid at the end: normalized images have values beyond 0 and 1.
    """
    sizes = _halved(height, width)
    channels = [max(_NARROWEST, _WIDEST >> step) for step in range(len(sizes))]
    layers: list[LayerSpec] = [Norm(), Leaky(), Dense(channels[0] * sizes[0][0] * sizes[0][1])]
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


def fitted(
    head: tuple[LayerSpec, ...], decoder: tuple[LayerSpec, ...], height: int, width: int
) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """The dense layers and the decoder of an autoencoder of the table, for images of any size.

    The map that the decoder starts from has as few cells as give the image back, and the dense layer before it as many
    features as that map. Where the doublings overshoot, the result is cut down by nearest neighbor. Images of the
    size that the network was designed for get the layers of the table.
    """
    start = next(i for i, layer in enumerate(decoder) if isinstance(layer, View))
    view = decoder[start]
    assert isinstance(view, View)  # the search was for one
    ups = decoder[start + 1 :]
    rows, columns = _least_start(ups, height), _least_start(ups, width)
    cells = View(view.channels, rows, columns)
    before = _with_features((*head, *decoder[:start]), view.channels * rows * columns)
    exact = (_side_after(ups, rows), _side_after(ups, columns)) == (height, width)
    ending = () if exact else (Enlarge(height, width),)
    return before[: len(head)], (*before[len(head) :], cells, *ups, *ending)


def _with_features(layers: tuple[LayerSpec, ...], features: int) -> tuple[LayerSpec, ...]:
    """The layers, the last dense one of which gives `features`."""
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, Dense))
    return (*layers[:last], Dense(features), *layers[last + 1 :])


def _least_start(ups: tuple[LayerSpec, ...], side: int) -> int:
    start = 1
    while _side_after(ups, start) < side:
        start += 1
    return start


def _side_after(ups: tuple[LayerSpec, ...], side: int) -> int:
    """How wide a map of `side` cells is behind doublings and transposed convolutions."""
    for layer in ups:
        if isinstance(layer, Double):
            side *= 2
        elif isinstance(layer, Deconv) and layer.padding is not None:
            side += layer.kernel - 1 - 2 * layer.padding
    return side
