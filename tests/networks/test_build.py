from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks import build_network
from fcdd_sweep.networks.build import network_of, torchvision_tensors
from fcdd_sweep.networks.describe import field_of
from fcdd_sweep.networks.layer_modules import build_layers
from fcdd_sweep.networks.layers import AveragePool
from fcdd_sweep.networks.receptive_field import ReceptiveField, receptive_field
from fcdd_sweep.networks.registry import NETWORKS

FCDD = {
    "FCDD_CNN28": ((1, 28, 28), 3_457, ReceptiveField(16, 4, 1.5, 7)),
    "FCDD_CNN28_W": ((1, 28, 28), 413_441, ReceptiveField(16, 4, 1.5, 7)),
    "FCDD_CNN32": ((3, 32, 32), 259_201, ReceptiveField(32, 4, 1.5, 8)),
    "FCDD_CNN32_S": ((3, 32, 32), 93_569, ReceptiveField(18, 4, 1.5, 8)),
    "FCDD_CNN32_LW3K": ((3, 32, 32), 1_185_537, ReceptiveField(22, 4, 1.5, 8)),
    **{
        f"FCDD_CNN32_{k}K": ((3, 32, 32), 591_233 + 3 * 128 * k * k, ReceptiveField(15 + k, 4, 1.5, 8))
        for k in (3, 5, 7, 9, 11, 13, 15, 17)
    },
    "FCDD_CNN224": ((3, 224, 224), 247_569, ReceptiveField(59, 8, 0.0, 28)),
    "FCDD_CNN224_W": ((3, 224, 224), 1_286_721, ReceptiveField(59, 8, 0.0, 28)),
    **{
        f"FCDD_CNN224_{k}K": ((3, 224, 224), 2_273 + 135_264 * k * k, ReceptiveField(size, 8, 0.0, 28))
        for k, size in ((3, 53), (5, 91), (7, 129), (9, 167), (11, 205), (13, 243))
    },
    "FCDD_CNN224_VGG_NOPT": ((3, 224, 224), 4_504_833, ReceptiveField(62, 8, 3.5, 28)),
    "FCDD_CNN224_VGG": ((3, 224, 224), 4_504_833, ReceptiveField(62, 8, 3.5, 28)),
    "FCDD_CNN224_VGG_F": ((3, 224, 224), 4_504_833, ReceptiveField(62, 8, 3.5, 28)),
}
"""Images, number of parameters and receptive field of each network; the paper's where it has them."""
BASELINES = {
    "CNN28": ((1, 28, 28), (48,)),
    "CNN28_W": ((1, 28, 28), (48,)),
    "CNN32": ((3, 32, 32), (64,)),
    "CNN32_LW3K": ((3, 32, 32), (64,)),
    "CNN224": ((3, 224, 224), (784,)),
    "CNN224_VGG_NOPT": ((3, 224, 224), (4096,)),
    "CNN224_VGG_NOPT_1000": ((3, 224, 224), (1000,)),
    "CNN224_VGG": ((3, 224, 224), (4096,)),
    "CNN224_VGG_F": ((3, 224, 224), (4096,)),
    **{name: ((1, 28, 28), (1, 28, 28)) for name in ("AE28", "AE28_W")},
    **{name: ((3, 32, 32), (3, 32, 32)) for name in ("AE32", "AE32_LW3K")},
    **{name: ((3, 224, 224), (3, 224, 224)) for name in ("AE224", "AE224_VGG_NOPT", "AE224_VGG", "AE224_VGG_F")},
}
"""Images and outputs of the networks of the other methods."""


def without_numbers(name: str, in_shape: tuple[int, int, int]) -> nn.Module:
    """A network whose tensors have shapes alone: the largest has 240 million parameters."""
    with torch.device("meta"):
        return network_of(Network(name=name), NETWORKS[name].method, in_shape, None, pretrained=False)


def test_every_network_is_tested_here() -> None:
    assert {*FCDD, *BASELINES} == set(NETWORKS)


@pytest.mark.parametrize("name", FCDD)
def test_networks_have_the_papers_sizes(name: str) -> None:
    in_shape, parameters, field = FCDD[name]
    network = without_numbers(name, in_shape)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert (network.receptive_field, network.method) == (field, "fcdd")
    assert field_of(Network(name=name), "fcdd", in_shape[2]) == field
    assert NETWORKS[name].input_size == in_shape[1]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_codes_and_reconstructions(name: str) -> None:
    in_shape, out_shape = BASELINES[name]
    network = without_numbers(name, in_shape)
    assert network.method == NETWORKS[name].method == ("ae" if name.startswith("AE") else "hsc")
    assert network(torch.empty(2, *in_shape, device="meta")).shape == (2, *out_shape)
    assert network.in_shape == in_shape and NETWORKS[name].input_size == in_shape[1]


@pytest.mark.parametrize(("name", "features"), [("CNN28", 196), ("CNN28_W", 3136), ("CNN32", 2048), ("CNN224", 3136)])
def test_dense_layers_take_the_papers_features_and_others_at_other_sizes(name: str, features: int) -> None:
    in_shape = BASELINES[name][0]
    assert without_numbers(name, in_shape).head[1].in_features == features
    larger = without_numbers(name, (in_shape[0], in_shape[1] + 40, in_shape[2] + 40))
    assert larger.head[1].in_features > features


def test_vgg_has_torchvisions_layers_and_parameters() -> None:
    with torch.device("meta"):
        published = torchvision.models.vgg11_bn(weights=None).state_dict()
    ours = torchvision_tensors(without_numbers("CNN224_VGG_NOPT_1000", (3, 224, 224)))
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in published.items()}
    encoder = torchvision_tensors(without_numbers("AE224_VGG", (3, 224, 224)))
    assert encoder.keys() == {name for name in published if "classifier.6" not in name}


def test_vgg_for_smaller_images_spreads_its_map_as_torchvision() -> None:
    maps = torch.rand(2, 3, 10, 17)
    pool, _ = build_layers((AveragePool(7),), maps.shape[1:], 3, bias=True)
    torch.testing.assert_close(pool(maps), nn.AdaptiveAvgPool2d(7)(maps))


def test_dropout_alone_draws() -> None:
    drawing = {name for name, (in_shape, _) in BASELINES.items() if without_numbers(name, in_shape).draws}
    assert drawing == {name for name in BASELINES if "VGG" in name}


def test_parameters_are_registered_in_the_order_of_the_layers() -> None:
    shapes = [tuple(p.shape) for p in build_network("FCDD_CNN28", (1, 28, 28), seed=0).parameters()]
    assert shapes == [(8, 1, 5, 5), (8,), (8,), (8,), (16, 8, 5, 5), (16,), (1, 16, 1, 1), (1,)]
    names = list(build_network("AE28", (1, 28, 28), seed=0).state_dict())
    order = ["encoder.features.0.weight", "encoder.features.4.weight", "encoder.head.1.weight", "decoder.3.weight"]
    assert [name for name in names if name in order] == order


@pytest.mark.parametrize(("name", "layer", "before"), [("FCDD_CNN32", 9, 128), ("FCDD_CNN32_LW3K", 12, 128)])
def test_a_batch_norm_is_registered_and_never_used(name: str, layer: int, before: int) -> None:
    network = build_network(name, (3, 32, 32), seed=0)
    norm = network.layers[layer]
    assert norm.weight.shape == (before,)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert norm.weight.grad is None and not norm.running_mean.any()
    assert all(p.grad is not None for n, p in network.named_parameters() if not n.startswith(f"layers.{layer}."))


def test_without_bias_nothing_is_added() -> None:
    network = build_network("FCDD_CNN32_S", (3, 32, 32), bias=False, seed=0)
    assert [p.ndim for p in network.parameters()] == [4, 4, 4, 4]
    assert not network.eval()(torch.zeros(1, 3, 32, 32)).any()
    coder = build_network("AE32", (3, 32, 32), bias=False, seed=0)
    assert {p.ndim for p in coder.parameters()} == {2, 4}
    assert not coder.eval()(torch.zeros(1, 3, 32, 32)).any()


@pytest.mark.parametrize(
    ("name", "channels", "eps", "activation"),
    [
        ("FCDD_CNN28", 1, {1e-4}, nn.LeakyReLU),
        ("AE32", 3, {1e-4}, nn.LeakyReLU),
        ("FCDD_CNN224_VGG", 3, {1e-5}, nn.ReLU),
        ("AE224_VGG", 3, {1e-5}, nn.ReLU),
    ],
)
def test_norms_and_activations_have_the_papers_constants(
    name: str, channels: int, eps: set[float], activation: type[nn.Module]
) -> None:
    size = NETWORKS[name].input_size
    modules = list(without_numbers(name, (channels, size, size)).modules())
    assert {m.eps for m in modules if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)} == eps
    assert {type(m) for m in modules if isinstance(m, nn.LeakyReLU | nn.ReLU)} == {activation}
    assert {m.negative_slope for m in modules if isinstance(m, nn.LeakyReLU)} <= {0.01}


@pytest.mark.parametrize(("name", "ends"), [("AE28", True), ("AE28_W", True), ("AE32", False), ("AE32_LW3K", False)])
def test_reconstructions_end_in_a_sigmoid_where_the_paper_has_one(name: str, ends: bool) -> None:
    in_shape, _ = BASELINES[name]
    network = build_network(name, in_shape, seed=0)
    assert isinstance(network.decoder[-1], nn.Sigmoid) == ends
    assert network(torch.rand(3, *in_shape)).shape == (3, *in_shape)


def test_decoders_start_from_xavier_weights_where_the_paper_has_them() -> None:
    """The largest weight of a uniform draw is close to its bound."""
    for name, bound in (("AE28", (6 / (25 * 12)) ** 0.5 * nn.init.calculate_gain("leaky_relu", 0.01)), ("AE28_W", 0)):
        weight = build_network(name, (1, 28, 28), seed=0).decoder[7].weight.detach().abs().max().item()
        bound = bound or (1 / (25 * 128)) ** 0.5  # torch's default goes by what a kernel gives
        assert 0.98 * bound < weight <= bound, name


def test_vgg_starts_from_torchvisions_random_weights() -> None:
    layers = build_network("FCDD_CNN224_VGG_NOPT", (3, 32, 32), seed=0).layers
    for conv in (layers[4], layers[18]):
        assert conv.weight.std().item() == pytest.approx((2 / (9 * conv.out_channels)) ** 0.5, rel=0.02)
        assert not conv.bias.any()
    assert layers[21].bias.any()


def test_frozen_layers_get_no_gradient_and_their_batch_norms_still_follow_the_data() -> None:
    network = network_of(Network(name="FCDD_CNN224_VGG_F"), "fcdd", (3, 32, 32), 0, pretrained=False)
    network.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in network.layers[:15].parameters())
    assert all(p.grad is not None for p in network.layers[15:].parameters())
    assert all(network.layers[at].running_mean.any() for at in (1, 5, 9, 12))
    free = network_of(Network(name="FCDD_CNN224_VGG"), "fcdd", (3, 32, 32), 0, pretrained=False)
    assert all(p.requires_grad for p in free.parameters())


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
        ("FCDD_CNN224_VGG_NOPT", 75, 97),
        ("FCDD_CNN32_17K", 33, 41),
    ],
)
def test_maps_have_the_width_that_the_arithmetic_says(name: str, height: int, width: int, channels: int) -> None:
    network = build_network(name, (channels, height, width), seed=0)
    maps = network(torch.rand(2, channels, height, width))
    assert maps.shape == (2, 1, receptive_field(name, height).width, network.receptive_field.width)
    assert network.upsample(maps).shape == (2, 1, height, width)


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


def test_registries_and_receptive_fields_need_no_torch() -> None:
    code = (
        "import sys, fcdd_sweep.networks.registry, fcdd_sweep.networks.receptive_field, "
        "fcdd_sweep.anomalies.registry, fcdd_sweep.anomalies.limits, fcdd_sweep.networks.describe as describe\n"
        "from fcdd_sweep.config.schema import Network\n"
        "list(describe.problems_before_reading(Network(name='FCDD_CNN224_VGG'), 'fcdd', 3, 224))\n"
        "describe.weights_fingerprint(Network(name='FCDD_CNN224_VGG')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "in_shape", "start", "cut"),
    [
        ("AE32", (3, 32, 32), (4, 4, 4), False),
        ("AE32", (1, 72, 72), (4, 9, 9), False),
        ("AE32_LW3K", (3, 33, 48), (4, 5, 6), True),
        ("AE28", (1, 28, 28), (3, 4, 4), False),
        ("AE28_W", (1, 36, 36), (3, 5, 5), False),
        ("AE28", (1, 30, 30), (3, 5, 5), True),
        ("AE224", (3, 96, 96), (16, 3, 3), False),
        ("AE224_VGG_NOPT", (3, 64, 64), (512, 2, 2), False),
    ],
)
def test_autoencoders_give_images_of_any_size_back(name, in_shape, start, cut):
    with torch.device("meta"):
        network = build_network(name, in_shape, weights="none").eval()
        assert network(torch.zeros(2, *in_shape)).shape == (2, *in_shape)
    view = next(module for module in network.decoder if isinstance(module, torch.nn.Unflatten))
    assert tuple(view.unflattened_size) == start
    enlarged = [module for module in network.decoder if isinstance(module, torch.nn.Upsample) and module.size]
    assert len(enlarged) == cut


@pytest.mark.parametrize("name", ["FCDD_CNN224_VGG_F", "CNN224_VGG_F", "AE224_VGG_F"])
def test_a_frozen_front_and_what_follows_it_are_the_whole_network(name: str) -> None:
    whole = without_numbers(name, (3, 224, 224))
    front = whole.front
    assert [type(layer).__name__ for layer in front].count("MaxPool2d") == 3 and len(front) == whole.frozen == 15
    frozen = {parameter for parameter in whole.parameters() if not parameter.requires_grad}
    assert frozen == set(front.parameters()) and not any(getattr(layer, "p", 0) for layer in front)
    maps = front(torch.empty(2, 3, 224, 224, device="meta"))
    assert maps.shape == (2, 256, 28, 28)
    assert whole.after_front(maps).shape == whole(torch.empty(2, 3, 224, 224, device="meta")).shape


def test_networks_that_are_trained_whole_have_no_frozen_front() -> None:
    images = torch.rand(2, 1, 28, 28)
    for name in ("FCDD_CNN28", "CNN28", "AE28"):
        network = build_network(name, (1, 28, 28), seed=0).eval()
        assert network.frozen == len(network.front) == 0
        assert torch.equal(network.after_front(images), network(images))
