"""Initial weights of networks: from seeds, from ImageNet, from files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, VGG11_BN_Weights
from torchvision.models._api import WeightsEnum
from torchvision.models.vgg import cfgs, make_layers

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks import build_network
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.describe import imagenet_of, start_text, to_fetch, weights_fingerprint
from fcdd_sweep.networks.pretrained import read_weights
from fcdd_sweep.planning.sections import problems_of_network

SMALL = (3, 32, 32)
RESNET = Network(backbone="resnet18", node="layer1")


def vgg_features() -> nn.Sequential:
    """torchvision's convolutions with weights and statistics that are not the initial ones."""
    torch.manual_seed(1)
    features = make_layers(cfgs["A"], batch_norm=True)
    features.train()(torch.rand(4, 3, 32, 32))
    return features.eval()


def vgg_state() -> dict[str, Tensor]:
    return {f"features.{name}": tensor for name, tensor in vgg_features().state_dict().items()}


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when ImageNet weights are requested."""
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: pytest.fail(f"{self} was asked for"))


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/cache"}, {"TORCH_HOME": "~/torches"}])
def test_the_place_of_the_weights_is_torchs_own(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for network, entry in (
        (Network(name="FCDD_CNN224_VGG"), VGG11_BN_Weights.IMAGENET1K_V1),
        (RESNET, ResNet18_Weights.DEFAULT),
    ):
        weights = imagenet_of(network)
        assert weights is not None
        assert (weights.name, weights.url) == (str(entry), entry.url)
        assert weights.file == Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name


def test_a_plan_names_the_weights_that_will_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = Network(name="FCDD_CNN224_VGG")
    for piece in (
        "FCDD_CNN224_VGG starts from ImageNet weights: VGG11_BN_Weights.IMAGENET1K_V1",
        "will be downloaded from https://download.pytorch.org/models/vgg11_bn-6002323d.pth to",
        f" to {tmp_path}/hub/checkpoints/vgg11",
    ):
        assert piece in to_fetch(network)
    assert start_text(network) == "from VGG11_BN_Weights.IMAGENET1K_V1, to be downloaded"
    file = tmp_path / "hub" / "checkpoints" / "vgg11_bn-6002323d.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert to_fetch(network) == ""
    assert start_text(network) == "from VGG11_BN_Weights.IMAGENET1K_V1, in the cache of torch"
    assert start_text(network.model_copy(update={"weights": "none"})) == "from random weights"
    assert to_fetch(Network(name="FCDD_CNN28")) == ""


@pytest.mark.parametrize("name", ["FCDD_CNN224_VGG", "FCDD_CNN224_VGG_F"])
def test_vgg_starts_from_imagenets_weights_through_torchvision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def state_dict(self: WeightsEnum, **options: Any) -> dict[str, Tensor]:
        asked.append((self, options))
        return vgg_state()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", state_dict)
    network = build_network(name, SMALL, seed=0).eval()
    ((weights, options),) = asked
    assert weights is VGG11_BN_Weights.IMAGENET1K_V1 and options["check_hash"] and not options["progress"]
    images = torch.rand(2, *SMALL)
    wanted = network.layers[21](vgg_features()[:21](images))
    torch.testing.assert_close(network(images), wanted)


def test_what_has_no_published_weights_comes_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: vgg_state())
    one, two, other = (build_network("FCDD_CNN224_VGG", SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.layers[21].weight, two.layers[21].weight)
    assert not torch.equal(one.layers[21].weight, other.layers[21].weight)
    assert torch.equal(one.layers[18].weight, other.layers[18].weight)


def test_a_backbone_starts_from_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    model = torchvision.models.resnet18(weights=None).eval()
    asked: list[Any] = []
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: asked.append(self) or model.state_dict())
    network = network_of(RESNET, "fcdd", SMALL, 0).eval()
    images = torch.rand(2, *SMALL)
    maps = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(images)))))
    torch.testing.assert_close(network(images), network.layers[1](maps))
    assert asked == [ResNet18_Weights.DEFAULT]
    for method in ("hsc", "ae"):
        front = network_of(RESNET, method, SMALL, 0).eval()
        features = front.features if method == "hsc" else front.encoder.features
        torch.testing.assert_close(features(images), maps)


@pytest.mark.usefixtures("no_download")
def test_nothing_is_fetched_when_weights_follow_or_are_not_wanted() -> None:
    network_of(Network(name="FCDD_CNN224_VGG"), "fcdd", SMALL, 0, pretrained=False)
    network_of(RESNET, "fcdd", SMALL, 0, pretrained=False)
    network_of(Network(name="FCDD_CNN224_VGG", weights=Path("/nowhere")), "fcdd", SMALL, 0, pretrained=False)
    build_network("FCDD_CNN224_VGG", SMALL, seed=0, weights="none")
    build_network("FCDD_CNN224_VGG_NOPT", SMALL, seed=0)


def test_a_failed_download_says_where_to_put_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self: WeightsEnum, **_: Any) -> dict[str, Tensor]:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    with pytest.raises(InputError) as caught:
        build_network("FCDD_CNN224_VGG", SMALL, seed=0)
    text = str(caught.value)
    assert "vgg11_bn-6002323d.pth" in text and "no route to host" in text
    assert str(tmp_path / "hub" / "checkpoints") in text and "network.weights: PATH" in text


@pytest.mark.usefixtures("no_download")
def test_a_file_of_weights_is_taken_in_place_of_imagenets(tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in vgg_state().items() if "num_batches_tracked" not in name}
    torch.save(old, tmp_path / "vgg.pth")
    network = build_network("FCDD_CNN224_VGG_F", SMALL, seed=0, weights=tmp_path / "vgg.pth").eval()
    images = torch.rand(2, *SMALL)
    torch.testing.assert_close(network(images), network.layers[21](vgg_features()[:21](images)))
    assert not network.layers[0].weight.requires_grad
    assert list(problems_of_network(Network(name="FCDD_CNN224_VGG", weights=tmp_path / "vgg.pth"), "fcdd", 3, 32)) == []


def test_a_backbone_takes_a_file_for_images_of_its_channels(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    network = Network(backbone="resnet18", node="layer1", weights=tmp_path / "resnet.pth")
    loaded = network_of(network, "fcdd", SMALL, 0).layers[0].body
    assert torch.equal(loaded.get_parameter("layer1.0.conv1.weight"), state["layer1.0.conv1.weight"])
    (problem,) = problems_of_network(network, "fcdd", 1, 32)
    assert "conv1.weight of shape (64, 3, 7, 7), the network has (64, 1, 7, 7)" in problem.what
    torch.save({**state, "conv1.weight": torch.ones(64, 1, 7, 7)}, tmp_path / "resnet.pth")
    assert bool((network_of(network, "fcdd", (1, 32, 32), 0).layers[0].body.conv1.weight == 1).all())


def without_bias(path: Path) -> None:
    torch.save({name: tensor for name, tensor in vgg_state().items() if name != "features.4.bias"}, path)


def of_other_shape(path: Path) -> None:
    torch.save({**vgg_state(), "features.4.weight": torch.zeros(128, 64, 5, 5)}, path)


def checkpoint(path: Path) -> None:
    torch.save({"model": vgg_state(), "epoch": 3}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (without_bias, "has no features.4.bias; it has features.0.weight"),
        (of_other_shape, "features.4.weight of shape (128, 64, 5, 5), the network has (128, 64, 3, 3)"),
        (checkpoint, "is not a state dict but a dict with the keys model, epoch"),
        (lambda path: path.write_bytes(b"no weights at all"), "does not load"),
        (lambda path: torch.save(torch.zeros(3), path), "is not a state dict but a Tensor"),
        (lambda path: None, "there is no file"),
        (lambda path: path.mkdir(), "there is no file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_and_when_building(write: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    (problem,) = problems_of_network(Network(name="FCDD_CNN224_VGG", weights=path), "fcdd", 3, 32)
    assert problem.where == "network.weights" and words in problem.what
    with pytest.raises(InputError) as caught:
        build_network("FCDD_CNN224_VGG", SMALL, seed=0, weights=path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_a_file_for_another_part_lacks_the_dense_layers(tmp_path: Path) -> None:
    torch.save(vgg_state(), tmp_path / "features.pth")
    network = Network(name="CNN224_VGG", weights=tmp_path / "features.pth")
    (problem,) = problems_of_network(network, "hsc", 3, 224)
    assert "has no classifier.0.weight, classifier.0.bias, classifier.3.weight and 1 more" in problem.what


def test_inception_brings_images_to_its_own_scale_where_it_has_weights() -> None:
    """As torchvision's function has it when it is asked for weights."""
    given, random = (
        network_of(Network(backbone="googlenet", node="conv1", weights=weights), "fcdd", SMALL, 0, pretrained=False)
        for weights in ("auto", "none")
    )
    images = torch.rand(2, *SMALL)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(given.eval()(images), random.eval()((images * std + mean) * 2 - 1))


def test_names_of_old_files_for_densenets_are_understood(tmp_path: Path) -> None:
    name = "features.denseblock1.denselayer2"
    torch.save({f"{name}.norm.1.weight": torch.ones(2), f"{name}.conv.2.weight": torch.ones(3)}, tmp_path / "x.pth")
    assert set(read_weights(tmp_path / "x.pth")) == {f"{name}.norm1.weight", f"{name}.conv2.weight"}


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    assert weights_fingerprint(Network(name="FCDD_CNN28")) == ""
    assert weights_fingerprint(Network(name="FCDD_CNN224_VGG", weights="none")) == ""
    vgg = "imagenet:VGG11_BN_Weights.IMAGENET1K_V1"
    assert weights_fingerprint(Network(name="FCDD_CNN224_VGG_F")) == vgg
    assert weights_fingerprint(Network(name="FCDD_CNN224_VGG_NOPT", weights="imagenet")) == vgg
    assert weights_fingerprint(RESNET) == f"imagenet:{ResNet18_Weights.DEFAULT}"
    known = hashlib.sha256(b"one").hexdigest()[:12]
    assert weights_fingerprint(Network(name="FCDD_CNN224_VGG", weights=path)) == known


@pytest.mark.parametrize(
    ("network", "method"),
    [
        (Network(name="AE32"), "ae"),
        (Network(name="CNN32"), "hsc"),
        (Network(name="FCDD_CNN224_VGG_NOPT"), "fcdd"),
        *((Network(backbone="resnet18", node="layer1", weights="none"), method) for method in ("fcdd", "hsc", "ae")),
    ],
)
def test_a_seed_decides_all_weights_and_leaves_the_global_stream_alone(network: Network, method: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (network_of(network, method, SMALL, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    weights = [key for key, tensor in one.items() if tensor.ndim > 1]
    assert weights and not any(torch.equal(one[key], other[key]) for key in weights)


def test_checks_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    for backbone in ("regnet_y_400mf", "mobilenet_v2"):
        list(problems_of_network(Network(backbone=backbone, node="nowhere"), "fcdd", 3, 64))
    assert torch.equal(torch.get_rng_state(), before)
