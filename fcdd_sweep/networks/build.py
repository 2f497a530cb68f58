"""Torch modules for every network and method, and Gaussian upsampling of FCDD's maps."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Network
from fcdd_sweep.metrics.heatmap_values import upsampling_weights
from fcdd_sweep.networks.baseline_layers import decoder_to, dense_layers, fitted
from fcdd_sweep.networks.build_layers import draw_as_vgg, modules_of
from fcdd_sweep.networks.describe import cut_of, field_of, problems_before_reading, starting_weights
from fcdd_sweep.networks.layers import LayerSpec
from fcdd_sweep.networks.pretrained import load_imagenet, misfit, put, read_weights
from fcdd_sweep.networks.receptive_field import ReceptiveField
from fcdd_sweep.networks.registry import NETWORKS, TO_MAP, MethodName

ImageShape = tuple[int, int, int]


class Net(nn.Module):
    """What the networks of all methods have in common.

    Attributes:
        in_shape: channels, height and width of its images.
        receptive_field: size, jump, shift of a cell of its map in input pixels, and the number of cells along the
            width; the map is the output of FCDD networks and lies before the dense layers of the others.
        method: what it is trained for.
        draws: whether it draws from torch's global generators in training mode, as dropout does.
    """

    method: ClassVar[MethodName]

    def __init__(self, in_shape: ImageShape, field: ReceptiveField) -> None:
        super().__init__()
        self.in_shape = in_shape
        self.receptive_field = field

    @property
    def draws(self) -> bool:
        return any(getattr(module, "p", 0) for module in self.modules())


class FCDDNet(Net):
    """A fully convolutional network whose output cells know what they see."""

    method = "fcdd"

    def __init__(self, layers: nn.Sequential, in_shape: ImageShape, field: ReceptiveField) -> None:
        super().__init__(in_shape, field)
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to (N, 1, U, V) output cells, before any distance is taken."""
        return self.layers(images)

    def upsample(self, maps: Tensor, std: float | None = None) -> Tensor:
        """(N, 1, U, V) anomaly maps to (N, 1, H, W) heatmaps; see `metrics.heatmap_values`. Gradients pass through.

        Args:
            maps: on any device; half precision is raised to float32, since the weights span many magnitudes.
            std: standard deviation of the Gaussian in pixels; None: by the receptive field's size.
        """
        field = (self.receptive_field.size, self.receptive_field.jump, self.receptive_field.shift)
        kind = torch.promote_types(maps.dtype, torch.float32)
        rows = _weights(field, maps.shape[-2], self.in_shape[1], std, maps.device, kind)
        columns = _weights(field, maps.shape[-1], self.in_shape[2], std, maps.device, kind)
        with torch.autocast(maps.device.type, enabled=False):
            return rows @ (maps.to(kind) @ columns.mT)


@lru_cache(maxsize=64)
def _weights(
    field: tuple[int, int, float], cells: int, out_size: int, std: float | None, device: torch.device, kind: torch.dtype
) -> Tensor:
    """`upsampling_weights` on a device, sent there once. Never an inference tensor, as later calls may train."""
    with torch.inference_mode(mode=False):
        return torch.tensor(upsampling_weights(field, cells, out_size, std), dtype=kind, device=device)


class HSCNet(Net):
    """A convolutional network with dense layers behind it, for the hypersphere classifier."""

    method = "hsc"

    def __init__(
        self, features: nn.Sequential, head: nn.Sequential, in_shape: ImageShape, field: ReceptiveField
    ) -> None:
        super().__init__(in_shape, field)
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to (N, D)."""
        return self.head(self.features(images))


class AENet(Net):
    """An autoencoder: the hypersphere classifier's network, and a decoder on its output."""

    method = "ae"

    def __init__(self, encoder: HSCNet, decoder: nn.Sequential) -> None:
        super().__init__(encoder.in_shape, encoder.receptive_field)
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to (N, C, H, W) reconstructions."""
        return self.decoder(self.encoder(images))


def build_network(
    name: str,
    in_shape: ImageShape,
    bias: bool = True,  # noqa: FBT001, FBT002
    seed: int | None = None,
    weights: str | Path = "auto",
) -> FCDDNet | HSCNet | AENet:
    """A network of the table, on the CPU.

    Args:
        name: one of `networks.registry.NETWORKS`.
        in_shape: channels, height and width of the images.
        bias: biases in convolutions and dense layers, and affine batch norms.
        seed: the weights are drawn from this seed alone and no global generator moves; None: from torch's global one.
        weights: `auto`: what the name says; `imagenet`, `none`, or a file of a state dict.

    Raises:
        InputError: an unknown network, images that do not fit it, or weights that do not.
    """
    network = Network.model_validate({"name": name, "bias": bias, "weights": weights})
    method = NETWORKS[name].method if name in NETWORKS else "fcdd"
    return network_of(network, method, in_shape, seed)


def network_of(
    network: Network,
    method: str,
    in_shape: ImageShape,
    seed: int | None,
    pretrained: bool = True,  # noqa: FBT001, FBT002
) -> FCDDNet | HSCNet | AENet:
    """The network of an experiment, on the CPU.

    Args:
        network: as in an experiment.
        method: `fcdd`, `hsc` or `ae`.
        in_shape: channels, height and width of the images.
        seed: as for `build_network`.
        pretrained: False when all weights are loaded right afterwards: none are read or downloaded here.

    Raises:
        InputError: there is no such network, images or weights do not fit it, or weights cannot be had.
    """
    random = network.model_copy(update={"weights": "none"})
    sides = dict.fromkeys(in_shape[1:])
    problems = [
        problem
        for side in sides
        for problem in problems_before_reading(network if pretrained else random, method, in_shape[0], side)
    ]
    if problems:
        raise InputError(dict.fromkeys(problems))
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        built = _built(network, in_shape, method)
    if pretrained and (start := starting_weights(network)) != "none":
        weights = read_weights(start) if isinstance(start, Path) else load_imagenet(network.backbone)
        if problem := misfit(weights, torchvision_tensors(built), str(start)):
            raise InputError(problem)
        put(weights, torchvision_tensors(built))
    return built


def problem_of_file(network: Network, method: str, channels: int, path: Path) -> Problem | None:
    """Why a file of weights does not fit a network that is sound apart from it."""
    side = 224 if network.name is None else NETWORKS[network.name].input_size
    with torch.device("meta"):  # names and shapes are wanted, not numbers
        built = _built(network, (channels, side, side), method)
    try:
        return misfit(read_weights(path), torchvision_tensors(built), str(path))
    except InputError as error:
        return error.problems[0]


def torchvision_tensors(net: Net) -> dict[str, Tensor]:
    """The weights of a network that are torchvision's, by their names there. Copying into them changes the network."""
    if isinstance(net, AENet):
        return torchvision_tensors(net.encoder)
    from fcdd_sweep.networks.backbones import Trunk  # see `_trunk`

    layers = net.layers[:-1] if isinstance(net, FCDDNet) else net.features
    if isinstance(layers[0], Trunk):
        return dict(layers[0].body.state_dict())
    tensors = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    if isinstance(net, HSCNet):
        numbers = ((name.partition("."), tensor) for name, tensor in net.head.state_dict().items())
        # pooling and flattening are layers of the head here and are not in torchvision's `classifier`
        tensors |= {f"classifier.{int(number) - 2}.{last}": tensor for (number, _, last), tensor in numbers}
    return tensors


def _built(network: Network, in_shape: ImageShape, method: str) -> FCDDNet | HSCNet | AENet:
    """The network with random weights."""
    field = field_of(network, method, in_shape[2])
    bias, channels = network.bias, in_shape[0]
    front, shape = _front(network, in_shape)
    if method == "fcdd":
        to_map, _ = modules_of((TO_MAP,), shape, channels, bias=bias)
        return FCDDNet(nn.Sequential(*front, *to_map), in_shape, field)
    dense, decoder = _behind_front(network, shape, in_shape)
    head, code = modules_of(dense, shape, channels, bias=bias)
    if network.name is not None and NETWORKS[network.name].vgg:
        draw_as_vgg(head)
    encoder = HSCNet(front, head, in_shape, field)
    return encoder if method == "hsc" else AENet(encoder, modules_of(decoder, code, channels, bias=bias)[0])


def _front(network: Network, in_shape: ImageShape) -> tuple[nn.Sequential, tuple[int, ...]]:
    """The convolutional part, down to but without FCDD's last layer, and the shape (C, U, V) of what it gives."""
    if network.name is None:
        return _trunk(network, in_shape)
    info = NETWORKS[network.name]
    layers = info.layers[:-1] if info.method == "fcdd" else info.layers
    front, shape = modules_of(layers, in_shape, in_shape[0], bias=network.bias)
    if info.vgg:
        draw_as_vgg(front)
    front[: info.frozen].requires_grad_(requires_grad=False)
    return front, shape


def _trunk(network: Network, in_shape: ImageShape) -> tuple[nn.Sequential, tuple[int, ...]]:
    from fcdd_sweep.networks.backbones import Trunk  # brings torchvision, a third of a worker's start

    rescaling = starting_weights(network) != "none"
    trunk = Trunk(*cut_of(network), in_shape[0], rescaling=rescaling)
    with torch.no_grad():  # in evaluation mode: nothing is drawn, and batch norms learn nothing
        maps = trunk.eval()(torch.zeros(1, *in_shape))
    return nn.Sequential(trunk.train()), tuple(maps.shape[1:])


def _behind_front(
    network: Network, shape: tuple[int, ...], in_shape: ImageShape
) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """The dense layers and the decoder of a baseline."""
    if network.name is None:
        return dense_layers(*shape[1:]), decoder_to(*in_shape[1:])
    info = NETWORKS[network.name]
    return fitted(info.head, info.decoder, *in_shape[1:]) if info.decoder else (info.head, ())
