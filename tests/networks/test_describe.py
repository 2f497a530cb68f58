"""What is said of networks that cannot be built, counterparts, and backbones of all methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from fcdd_sweep.config.errors import ExperimentError, InputError
from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks import build_network
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.describe import counterpart, field_of
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning import describe, sections
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.planning.sections import problems_of_network


def cut(backbone: str, node: str, **keys: object) -> Network:
    return Network.model_validate({"backbone": backbone, "node": node, "weights": "none", **keys})


PROBLEMS = {
    "an unknown name": (Network(name="FCDD_CNN29"), "fcdd", 1, 28, "network.name", ["FCDD_CNN224_VGG_F", "Closest: '"]),
    "a baseline's network for FCDD": (
        Network(name="AE28"),
        *("fcdd", 1, 28, "network.name"),
        ["'AE28' is a network of method 'ae', and the method is 'fcdd'", "Set network.name: FCDD_CNN28,", "method: ae"],
    ),
    "an FCDD network for a baseline": (
        Network(name="FCDD_CNN224_VGG_F"),
        *("hsc", 3, 224, "network.name"),
        ["Set network.name: CNN224_VGG_F, its counterpart", "CNN32_LW3K"],
    ),
    "one baseline's network for the other": (
        Network(name="CNN32"),
        *("ae", 3, 32, "network.name", ["Set network.name: AE32,"]),
    ),
    "a map of one cell": (
        Network(name="FCDD_CNN28"),
        *("fcdd", 1, 7, "images.size"),
        ["would have a single cell, which localizes nothing, for images of 7 px; the smallest size that fits is 8 px"],
    ),
    "no map": (
        Network(name="FCDD_CNN28"),
        *("fcdd", 1, 3, "images.size", ["would vanish for images of 3 px; the smallest size that fits is 8 px"]),
    ),
    "no map before dense layers": (
        Network(name="CNN224_VGG_NOPT"),
        *("hsc", 3, 31, "images.size"),
        ["the map before the dense layers of CNN224_VGG_NOPT would vanish", "fits is 32 px"],
    ),
    "an autoencoder whose map vanishes": (
        Network(name="AE32"),
        *("ae", 3, 7, "images.size", ["before the dense layers of AE32 would vanish", "fits is 8 px"]),
    ),
    "a backbone for small images": (
        cut("resnet18", "layer3"),
        *(
            "fcdd",
            3,
            16,
            "images.size",
            ["resnet18 up to layer3", "single cell", "the smallest size that fits is 17 px"],
        ),
    ),
    "imagenet for a network without": (
        Network(name="FCDD_CNN28", weights="imagenet"),
        *("fcdd", 1, 28, "network.weights", ["has only random weights", "FCDD_CNN224_VGG, FCDD_CNN224_VGG_F"]),
    ),
    "a file for a network without": (
        Network(name="AE28", weights=Path("/x.pth")),
        *("ae", 1, 28, "network.weights", ["found /x.pth", "AE224_VGG, AE224_VGG_F and backbones"]),
    ),
    "a missing file": (
        Network(name="FCDD_CNN224_VGG", weights=Path("/nowhere/x.pth")),
        *("fcdd", 3, 224, "network.weights", ["there is no file /nowhere/x.pth"]),
    ),
    "vgg without bias": (
        Network(name="FCDD_CNN224_VGG_NOPT", bias=False),
        *("fcdd", 3, 224, "network.bias", ["which have biases", "Allowed: true"]),
    ),
    "a backbone without bias": (cut("resnet18", "layer1", bias=False), "fcdd", 3, 224, "network.bias", ["resnet18"]),
    "gray images and imagenet": (
        Network(name="FCDD_CNN224_VGG_F"),
        *("fcdd", 1, 224, "images.color", ["are for 3 channels; the images have 1", "network.weights: none"]),
    ),
    "gray images and a pretrained backbone": (
        cut("resnet18", "layer1", weights="auto"),
        *("fcdd", 1, 224, "images.color", ["resnet18 up to layer1"]),
    ),
    "an unknown backbone": (
        cut("resnet81", "layer1"),
        *("fcdd", 3, 224, "network.backbone", ["no classification network 'resnet81'", "convnext_tiny", "Closest: 'r"]),
    ),
    "a network that classifies nothing": (
        cut("fcn_resnet50", "backbone"),
        *("fcdd", 3, 224, "network.backbone", ["no classification network 'fcn_resnet50'"]),
    ),
    "an unknown node": (
        cut("resnet18", "layer7"),
        *("hsc", 3, 224, "network.node", ["no node 'layer7'", "layer1, layer1.0, layer1.1, layer2", "Closest: 'layer"]),
    ),
    "the whole image": (
        cut("resnet18", "avgpool"),
        *("fcdd", 3, 224, "network.node", ["'avgpool' (AdaptiveAvgPool2d)", "Cut it at an earlier node"]),
    ),
    "no map at the node": (cut("resnet18", "fc"), "fcdd", 3, 224, "network.node", ["has no positions in the image"]),
    "attention": (
        cut("vit_b_16", "encoder"),
        "fcdd",
        3,
        224,
        "network.node",
        ["has no positions in the image", "conv_proj"],
    ),
    "windows of attention": (cut("swin_t", "features.1"), "fcdd", 3, 224, "network.node", ["Allowed: features.0.0"]),
    "another order of dimensions": (
        cut("convnext_tiny", "features.1.0.block.2"),
        *("fcdd", 3, 224, "network.node", ["is not a map of channels, rows and columns"]),
    ),
    "a field that is not square": (
        cut("inception_v3", "Mixed_6b.branch7x7_2"),
        *("fcdd", 3, 224, "network.node", ["px, which is not square"]),
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_problem_says_where_what_is_allowed_and_what_to_do(case: str) -> None:
    network, method, channels, size, where, words = PROBLEMS[case]
    (problem,) = problems_of_network(network, method, channels, size)
    assert problem.where == where
    assert [word for word in words if word not in str(problem)] == [], str(problem)
    with pytest.raises(InputError) as caught:
        network_of(network, method, (channels, size, size), 0)
    assert caught.value.problems == (problem,)


def test_all_problems_are_reported_at_once() -> None:
    network = Network(name="FCDD_CNN224_VGG", bias=False)
    found = [problem.where for problem in problems_of_network(network, "fcdd", 1, 8)]
    assert found == ["images.size", "network.bias", "images.color"]


def test_what_is_not_known_is_not_checked() -> None:
    assert list(problems_of_network(Network(name="FCDD_CNN224_VGG"), "fcdd", None, None)) == []


def test_other_channels_are_welcome_without_weights() -> None:
    assert list(problems_of_network(Network(name="FCDD_CNN224_VGG", weights="none"), "fcdd", 1, 64)) == []
    network = network_of(cut("resnet18", "layer1"), "fcdd", (1, 64, 64), 0)
    assert network(torch.rand(2, 1, 64, 64)).shape == (2, 1, 16, 16)


def test_build_network_refuses_what_cannot_be_built() -> None:
    with pytest.raises(InputError, match=r"there is no network 'FCDD_CNN29'.*FCDD_CNN224.*Closest: 'FCDD_CNN"):
        build_network("FCDD_CNN29", (1, 28, 28))
    with pytest.raises(InputError, match=r"images\.size: the anomaly map of FCDD_CNN32_S would have a single cell"):
        build_network("FCDD_CNN32_S", (3, 64, 7))


def test_fields_are_known_before_building_and_only_for_the_right_method() -> None:
    assert field_of(cut("resnet18", "layer2"), "ae", 224).size == 99
    with pytest.raises(InputError, match="AE28"):
        field_of(Network(name="AE28"), "fcdd", 28)
    with pytest.raises(InputError, match="layer9"):
        field_of(cut("resnet18", "layer9"), "fcdd", 28)


def test_every_fcdd_network_has_counterparts_for_the_same_images() -> None:
    for name, info in NETWORKS.items():
        if info.method == "fcdd":
            for method in ("hsc", "ae"):
                found = NETWORKS[counterpart(Network(name=name), method).name or ""]
                assert (found.method, found.input_size, found.vgg) == (method, info.input_size, info.vgg)
                assert (found.pretrained, found.frozen) == (info.pretrained, info.frozen)


@pytest.mark.parametrize(
    ("name", "hsc", "ae"),
    [
        ("FCDD_CNN28", "CNN28", "AE28"),
        ("FCDD_CNN28_W", "CNN28_W", "AE28_W"),
        ("FCDD_CNN32", "CNN32", "AE32"),
        ("FCDD_CNN32_S", "CNN32", "AE32"),
        ("FCDD_CNN32_17K", "CNN32", "AE32"),
        ("FCDD_CNN32_LW3K", "CNN32_LW3K", "AE32_LW3K"),
        ("FCDD_CNN224_W", "CNN224", "AE224"),
        ("FCDD_CNN224_13K", "CNN224", "AE224"),
        ("FCDD_CNN224_VGG_NOPT", "CNN224_VGG_NOPT_1000", "AE224_VGG_NOPT"),
        ("FCDD_CNN224_VGG", "CNN224_VGG", "AE224_VGG"),
        ("FCDD_CNN224_VGG_F", "CNN224_VGG_F", "AE224_VGG_F"),
    ],
)
def test_counterparts_are_the_papers(name: str, hsc: str, ae: str) -> None:
    network = Network(name=name, bias=False)
    assert counterpart(network, "hsc") == Network(name=hsc, bias=False)
    assert counterpart(network, "ae") == Network(name=ae, bias=False)
    assert counterpart(network, "fcdd") == network


def test_counterparts_keep_backbones_and_weights() -> None:
    assert counterpart(cut("resnet18", "layer2"), "ae") == cut("resnet18", "layer2")
    vgg = Network(name="FCDD_CNN224_VGG", weights=Path("/x.pth"))
    assert counterpart(vgg, "hsc") == Network(name="CNN224_VGG", weights=Path("/x.pth"))


def test_a_network_without_counterpart_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = dataclasses.replace(NETWORKS["FCDD_CNN28"], hsc="", ae="")
    monkeypatch.setitem(NETWORKS, "MINE", alone)
    with pytest.raises(InputError, match="'MINE' is a network of method 'fcdd', and the method is 'hsc'"):
        counterpart(Network(name="MINE"), "hsc")
    with pytest.raises(InputError, match="there is no network 'YOURS'"):
        counterpart(Network(name="YOURS"), "hsc")


@pytest.mark.parametrize("in_shape", [(3, 64, 64), (3, 45, 70), (1, 33, 33)])
@pytest.mark.parametrize("backbone", [("resnet18", "layer2"), ("mobilenet_v3_small", "features.3")])
@pytest.mark.slow
def test_a_backbone_serves_every_method_at_any_size(backbone: tuple[str, str], in_shape: tuple[int, int, int]) -> None:
    images = torch.rand(2, *in_shape)
    fcdd, hsc, ae = (network_of(cut(*backbone), method, in_shape, 0) for method in ("fcdd", "hsc", "ae"))
    maps = hsc.features(images)
    assert fcdd(images).shape == (2, 1, *maps.shape[2:]) and maps.shape[-1] == fcdd.receptive_field.width
    assert hsc(images).shape == (2, 64)
    assert ae(images).shape == images.shape
    assert fcdd.receptive_field == hsc.receptive_field == ae.receptive_field
    assert (fcdd.method, hsc.method, ae.method) == ("fcdd", "hsc", "ae")
    ae(images).sum().backward()
    assert all(p.grad is not None for p in ae.parameters())


@pytest.mark.slow
def test_stochastic_depth_draws_and_plain_convolutions_do_not() -> None:
    drawing = {b: network_of(cut(b, "features.2"), "fcdd", (3, 64, 64), 0).draws for b in ("efficientnet_b0", "vgg11")}
    assert drawing == {"efficientnet_b0": True, "vgg11": False}


HEAD = "schema: 2\nname: x\npreset: digits\nimages: {load_size: 64, size: 64, color: rgb}\n"


@pytest.mark.parametrize(
    ("network", "method", "text"),
    [
        ("name: FCDD_CNN28", "fcdd", "FCDD_CNN28: receptive field 16 px, jump 4 px, anomaly map 16x16"),
        ("name: CNN32", "hsc", "CNN32: receptive field 36 px, jump 8 px, map before the dense layers 8x8"),
        (
            "backbone: resnet18, node: layer2",
            "fcdd",
            "resnet18 up to layer2: receptive field 99 px, jump 8 px, anomaly map 8x8",
        ),
    ],
)
def test_the_plan_says_what_a_network_sees(network: str, method: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"{HEAD}method: {method}\nnetwork: {{{network}}}\n")
    experiment, planned = plan_file(tmp_path / "x.yaml")
    assert text in describe.describe(planned, experiment)


@pytest.mark.parametrize("more", ["", "training: {epochs: many}\n"])
def test_the_plan_names_the_line_of_a_network_that_cannot_be_built(more: str, tmp_path: Path) -> None:
    """Also where the rest of the file is broken."""
    (tmp_path / "x.yaml").write_text(f"{HEAD}method: ae\nnetwork: {{backbone: resnet18, node: avgpool}}\n{more}")
    with pytest.raises(ExperimentError) as caught:
        plan_file(tmp_path / "x.yaml")
    (problem,) = (problem for problem in caught.value.problems if "network" in problem.where)
    assert problem.where.endswith("x.yaml:6: network.node") and "cannot be cut at 'avgpool'" in problem.what


def test_an_unknown_method_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"{HEAD}method: svdd\nnetwork: {{name: FCDD_CNN28}}\n")
    with pytest.raises(ExperimentError) as caught:
        plan_file(tmp_path / "x.yaml")
    (problem,) = caught.value.problems
    assert problem.where.endswith("x.yaml:5: method")


def test_a_network_is_looked_at_once_however_many_configs_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector: list[Network] = []
    monkeypatch.setattr(sections, "problems_of_network", lambda network, *_: inspector.append(network) or [])
    (tmp_path / "x.yaml").write_text(f"{HEAD}grid: {{training.epochs: [1, 2, 3]}}\nnetwork: {{name: FCDD_CNN28}}\n")
    plan_file(tmp_path / "x.yaml")
    assert inspector == [Network(name="FCDD_CNN28")]
