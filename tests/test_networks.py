from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.networks import build_network
from fcdd_sweep.networks.receptive_field import ReceptiveField, check_size, receptive_field
from fcdd_sweep.networks.registry import NETWORKS
from tests.oracles import seen_pixels

PAPER = {
    "FCDD_CNN28": ((1, 28, 28), 3_457, ReceptiveField(16, 4, 1.5, 7)),
    "FCDD_CNN28_W": ((1, 28, 28), 413_441, ReceptiveField(16, 4, 1.5, 7)),
    "FCDD_CNN32_S": ((3, 32, 32), 93_569, ReceptiveField(18, 4, 1.5, 8)),
    "FCDD_CNN224": ((3, 224, 224), 247_569, ReceptiveField(59, 8, 0.0, 28)),
}


def test_every_network_of_the_table_is_tested_here() -> None:
    assert PAPER.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", PAPER)
def test_networks_have_the_papers_sizes(name: str) -> None:
    in_shape, parameters, field = PAPER[name]
    network = build_network(name, in_shape, seed=0)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.receptive_field == field
    assert NETWORKS[name].input_size == in_shape[1]


def test_parameters_are_registered_in_the_order_of_the_layers() -> None:
    shapes = [tuple(p.shape) for p in build_network("FCDD_CNN28", (1, 28, 28), seed=0).parameters()]
    assert shapes == [(8, 1, 5, 5), (8,), (8,), (8,), (16, 8, 5, 5), (16,), (1, 16, 1, 1), (1,)]


def test_without_bias_nothing_is_added() -> None:
    network = build_network("FCDD_CNN32_S", (3, 32, 32), bias=False, seed=0)
    assert [p.ndim for p in network.parameters()] == [4, 4, 4, 4]
    assert not network.eval()(torch.zeros(1, 3, 32, 32)).any()


def test_norm_and_activation_have_the_papers_constants() -> None:
    modules = list(build_network("FCDD_CNN28", (1, 28, 28), seed=0).modules())
    assert [m.eps for m in modules if isinstance(m, torch.nn.BatchNorm2d)] == [1e-4]
    assert [m.negative_slope for m in modules if isinstance(m, torch.nn.LeakyReLU)] == [0.01]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("FCDD_CNN28", 28, 28),
        ("FCDD_CNN28", 33, 26),
        ("FCDD_CNN28_W", 28, 31),
        ("FCDD_CNN32_S", 64, 64),
        ("FCDD_CNN32_S", 35, 30),
        ("FCDD_CNN224", 96, 96),
        ("FCDD_CNN224", 75, 121),
        ("FCDD_CNN224", 224, 224),
    ],
)
def test_maps_have_the_width_that_the_arithmetic_says(name: str, height: int, width: int, channels: int) -> None:
    network = build_network(name, (channels, height, width), seed=0)
    maps = network(torch.rand(2, channels, height, width))
    assert maps.shape == (2, 1, receptive_field(name, height).width, network.receptive_field.width)
    assert network.upsample(maps).shape == (2, 1, height, width)


@pytest.mark.parametrize(
    ("name", "in_shape"),
    [
        ("FCDD_CNN28", (1, 28, 28)),
        ("FCDD_CNN28", (3, 30, 30)),
        ("FCDD_CNN32_S", (1, 32, 32)),
        ("FCDD_CNN32_S", (3, 43, 43)),
        ("FCDD_CNN224", (3, 96, 96)),
        ("FCDD_CNN224", (1, 101, 101)),
    ],
)
def test_gradient_reaches_exactly_the_pixels_of_the_receptive_field(name: str, in_shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = build_network(name, in_shape, seed=0)
    field = network.receptive_field
    row, column = field.width // 2, field.width // 2 - 1
    rows, columns = seen_pixels(network, in_shape, row, column)
    assert (rows, columns) == (span(field, row, in_shape[1]), span(field, column, in_shape[2]))


def span(field: ReceptiveField, cell: int, pixels: int) -> range:
    """The pixels of one axis that a cell sees, cut at the image's border."""
    centre = field.shift + cell * field.jump
    first = int(centre - (field.size - 1) / 2)
    return range(max(0, first), min(pixels, first + field.size))


def test_same_seed_gives_same_weights_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = (build_network("FCDD_CNN28", (1, 28, 28), seed=5).state_dict() for _ in range(2))
    other = build_network("FCDD_CNN28", (1, 28, 28), seed=6).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_without_seed_weights_come_from_the_global_stream() -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(build_network("FCDD_CNN28", (1, 28, 28)).layers[0].weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_unknown_network_is_told_with_all_names_and_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown network 'FCDD_CNN29'.*FCDD_CNN224.*Closest: 'FCDD_CNN28'"):
        build_network("FCDD_CNN29", (1, 28, 28))


@pytest.mark.parametrize(("name", "smallest"), [("FCDD_CNN28", 8), ("FCDD_CNN32_S", 8), ("FCDD_CNN224", 9)])
def test_images_too_small_are_refused_with_the_smallest_that_fit(name: str, smallest: int) -> None:
    assert check_size(name, smallest) is None
    assert f"the smallest that fit have {smallest} px" in str(check_size(name, smallest - 1))
    with pytest.raises(InputError, match=r"images\.size: the anomaly map .* would have a single cell"):
        build_network(name, (3, 64, smallest - 1))


def test_a_map_that_vanishes_is_called_so() -> None:
    assert "would vanish for images of 3 px" in str(check_size("FCDD_CNN28", 3))


def test_registries_and_receptive_fields_need_no_torch() -> None:
    code = (
        "import sys, fcdd_sweep.networks.registry, fcdd_sweep.networks.receptive_field, "
        "fcdd_sweep.anomalies.registry, fcdd_sweep.anomalies.exposure; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
