"""Which pixels a cell sees, found by gradients, against the arithmetic; and where its Gaussian goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fcdd_sweep.config.schema import Network
from fcdd_sweep.metrics.heatmap_values import default_std
from fcdd_sweep.networks import backbones, build_network
from fcdd_sweep.networks.backbones import Trunk, field_at, usable_nodes
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.receptive_field import ReceptiveField
from tests.oracles import seen_pixels, slow_upsample


def span(field: ReceptiveField, cell: int, pixels: int) -> range:
    """The pixels of one axis that a cell sees, cut at the image's border."""
    center = field.shift + cell * field.jump
    first = int(center - (field.size - 1) / 2)
    return range(max(0, first), min(pixels, first + field.size))


def check_by_gradients(network: nn.Module) -> None:
    torch.manual_seed(0)
    in_shape, field = network.in_shape, network.receptive_field
    row, column = field.width // 2, field.width // 2 - 1
    rows, columns = seen_pixels(network, in_shape, row, column)
    assert (rows, columns) == (span(field, row, in_shape[1]), span(field, column, in_shape[2]))
    assert len(columns) == field.size, "the image is too small to tell"


@pytest.mark.parametrize(
    ("name", "in_shape"),
    [
        ("FCDD_CNN28", (1, 28, 28)),
        ("FCDD_CNN28", (3, 30, 30)),
        ("FCDD_CNN28_W", (1, 29, 29)),
        ("FCDD_CNN32", (1, 48, 48)),
        ("FCDD_CNN32_S", (1, 32, 32)),
        ("FCDD_CNN32_S", (3, 43, 43)),
        ("FCDD_CNN32_LW3K", (1, 35, 35)),
        *((f"FCDD_CNN32_{kernel}K", (1, 45, 45)) for kernel in range(3, 18, 2)),
        ("FCDD_CNN224", (3, 96, 96)),
        ("FCDD_CNN224", (1, 101, 101)),
        ("FCDD_CNN224_W", (1, 90, 90)),
        ("FCDD_CNN224_3K", (1, 75, 75)),
        ("FCDD_CNN224_5K", (1, 117, 117)),
        ("FCDD_CNN224_VGG_NOPT", (3, 97, 97)),
    ],
)
def test_gradient_reaches_exactly_the_pixels_of_the_receptive_field(name: str, in_shape: tuple[int, int, int]) -> None:
    check_by_gradients(build_network(name, in_shape, seed=0))


BACKBONES = [
    ("resnet18", "layer1", 64),
    ("resnet18", "layer2", 135),
    ("efficientnet_b0", "features.3", 99),
    ("shufflenet_v2_x1_0", "stage2.0", 49),
    *(
        pytest.param(*case, marks=pytest.mark.long)
        for case in (
            ("vgg16", "features.16", 73),
            ("convnext_tiny", "features.1", 100),
            ("densenet121", "features.denseblock1", 81),
            ("inception_v3", "Mixed_5b", 115),
        )
    ),
]


@pytest.mark.parametrize(("backbone", "node", "size"), BACKBONES)
@pytest.mark.slow
def test_gradient_reaches_exactly_the_field_of_a_backbones_node(
    backbone: str, node: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates of squeeze-and-excitation see the whole image, which the field leaves out: they are held fixed here."""
    monkeypatch.setattr(nn.AdaptiveAvgPool2d, "forward", lambda _, maps: maps.mean((2, 3), keepdim=True).detach())
    network = Network(backbone=backbone, node=node, weights="none")
    check_by_gradients(network_of(network, "fcdd", (3, size, size), 0))


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What is remembered of torchvision's networks is forgotten before and after."""
    remembered = (backbones._traced, backbones._fields)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_dilation_spreads_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network of torchvision is dilated as it comes, so one is made so."""

    def dilated(_: str) -> nn.Module:
        return torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[True, False, False])

    monkeypatch.setattr(backbones, "_model", dilated)
    network = network_of(Network(backbone="resnet50", node="layer2.1", weights="none"), "fcdd", (3, 90, 90), 0)
    assert (network.receptive_field.size, network.receptive_field.jump) == (59, 4)
    check_by_gradients(network)


class Odd(nn.Module):
    """A network whose maps meet or are cut in ways that no field describes."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how
        self.last = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.how(images))


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda maps: maps[:, :, ::2, ::2], "getitem"),
        (lambda maps: maps + maps.permute(0, 1, 3, 2), "add"),
        (lambda maps: maps + functional.max_pool2d(maps, 200), "add"),
        (lambda maps: torch.cat([maps, maps], dim=2), "cat"),
        (lambda maps: maps.chunk(2, dim=3)[0], "chunk"),
    ],
)
def test_maps_that_are_cut_or_joined_otherwise_have_no_field(
    how: Callable[[Tensor], Tensor], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "_model", lambda _: Odd(how))
    assert f"'{named}' ({named})" in backbones.why_unusable("odd", "last")


@pytest.mark.parametrize(
    "backbone",
    [
        *("resnet18", "vgg11_bn", "convnext_tiny", "mobilenet_v3_small", "squeezenet1_1"),
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                *("efficientnet_b0", "densenet121", "shufflenet_v2_x0_5", "inception_v3"),
                *("googlenet", "regnet_y_400mf", "mnasnet0_5"),
            )
        ),
    ],
)
@pytest.mark.slow
def test_maps_of_backbones_have_the_width_that_the_arithmetic_says(backbone: str) -> None:
    nodes = usable_nodes(backbone)
    for node in nodes[1 :: max(1, len(nodes) // 2)]:
        with torch.device("meta"):
            trunk = Trunk(backbone, node, 3, rescaling=False).eval()
            widths = {size: trunk(torch.empty(1, 3, size, size)).shape[-1] for size in (97, 118)}
        assert widths == {size: field_at(backbone, node, size).width for size in widths}, node


@pytest.mark.parametrize("in_shape", [(3, 75, 90), (1, 64, 64)])
def test_heatmaps_of_a_backbone_have_every_gaussian_at_its_place(in_shape: tuple[int, int, int]) -> None:
    network = network_of(Network(backbone="squeezenet1_1", node="features.4", weights="none"), "fcdd", in_shape, 0)
    maps = network(torch.rand(2, *in_shape)).detach().abs()
    field = network.receptive_field
    wanted = slow_upsample(
        maps[1, 0].numpy(), field.size, field.jump, field.shift, in_shape[1:], default_std(field.size)
    )
    found = network.upsample(maps)[1, 0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())
