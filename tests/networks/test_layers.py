"""Sequences of layers for any image size, and the torch modules of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcdd_sweep.networks.layer_modules import build_layers, init_as_vgg
from fcdd_sweep.networks.layers import (
    CODE,
    Conv,
    Deconv,
    Dense,
    Double,
    Enlarge,
    LayerSpec,
    MaxPool,
    UnusedNorm,
    View,
    decoder_to,
    dense_layers,
    fit_decoder,
)
from fcdd_sweep.networks.receptive_field import ReceptiveField, field_after
from fcdd_sweep.networks.registry import NETWORKS


@pytest.mark.parametrize(("height", "width"), [(7, 7), (28, 28), (33, 50), (224, 224), (1, 3)])
def test_a_decoder_ends_at_the_size_of_the_image(height: int, width: int) -> None:
    modules, _ = build_layers(decoder_to(height, width), (CODE,), 3, bias=True)
    assert modules(torch.rand(2, CODE)).shape == (2, 3, height, width)
    first = next(layer for layer in decoder_to(height, width) if isinstance(layer, View))
    assert max(first.height, first.width) <= 7


@pytest.mark.parametrize(("height", "width", "features"), [(28, 28, 7 * 7), (5, 9, 5 * 5), (1, 1, 1)])
def test_a_large_map_is_averaged_before_the_dense_layers(height: int, width: int, features: int) -> None:
    modules, shape = build_layers(dense_layers(height, width), (8, height, width), 3, bias=True)
    dense = next(module for module in modules if isinstance(module, nn.Linear))
    assert (dense.in_features, shape) == (8 * features, (CODE,))
    assert modules(torch.rand(2, 8, height, width)).shape == (2, CODE)


@pytest.mark.parametrize("name", ["AE28", "AE32", "AE32_LW3K", "AE224"])
def test_an_autoencoder_keeps_its_layers_at_the_designed_size(name: str) -> None:
    info = NETWORKS[name]
    assert fit_decoder(info.head, info.decoder, info.input_size, info.input_size) == (info.head, info.decoder)


def test_an_autoencoder_at_another_size_starts_from_the_smallest_map_that_reaches_it() -> None:
    info = NETWORKS["AE32"]
    head, decoder = fit_decoder(info.head, info.decoder, 33, 40)
    assert View(4, 5, 5) in decoder and decoder[-1] == Enlarge(33, 40)
    assert [layer for layer in head if isinstance(layer, Dense)][-1] == Dense(4 * 5 * 5)


def test_a_layer_without_a_module_is_named() -> None:
    with pytest.raises(TypeError, match="no torch module is defined for layer pool"):
        build_layers(("pool",), (3, 8, 8), 3, bias=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(5, 4), (4, 9, 12)),
        (MaxPool(3, stride=2, padding=1), (3, 5, 6)),
        (UnusedNorm(), (3, 9, 12)),
    ],
)
def test_the_tracked_shape_is_that_of_the_output(layer: LayerSpec, shape: tuple[int, ...]) -> None:
    modules, tracked = build_layers((layer,), (3, 9, 12), 3, bias=True)
    assert tracked == shape == tuple(modules(torch.rand(2, 3, 9, 12)).shape[1:])


def test_transposed_convolutions_give_images_their_channels_and_keep_the_size() -> None:
    modules, _ = build_layers((Double(), Deconv(5, None)), (4, 3, 3), 3, bias=False)
    assert modules(torch.rand(1, 4, 3, 3)).shape == (1, 3, 6, 6) and modules[1].bias is None


def test_weights_as_in_vgg_have_its_spread_and_no_bias() -> None:
    torch.manual_seed(0)
    modules, _ = build_layers((Conv(3, 256), Dense(10)), (64, 1, 1), 3, bias=True)
    init_as_vgg(modules)
    assert modules[0].weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert not modules[0].bias.any() and not modules[1].bias.any()


def test_receptive_fields_compose_and_join() -> None:
    field = field_after((Conv(5, 8), MaxPool(2, stride=2, padding=0), Conv(3, 8)), 28)
    assert field == ReceptiveField(size=10, jump=2, shift=0.5, width=14)
    other = ReceptiveField(size=4, jump=2, shift=-2.5, width=13)
    assert field.union(other) == other.union(field) == ReceptiveField(size=10, jump=2, shift=0.5, width=13)
