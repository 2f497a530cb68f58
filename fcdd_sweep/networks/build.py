"""Torch modules for every network and method, and Gaussian upsampling of FCDD's maps."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Network
from fcdd_sweep.metrics.heatmap_values import upsampling_weights
from fcdd_sweep.networks.describe import cut_of, field_of, problems_before_reading, starting_weights
from fcdd_sweep.networks.layer_modules import build_layers, init_as_vgg
from fcdd_sweep.networks.layers import LayerSpec, decoder_to, dense_layers, fit_decoder
from fcdd_sweep.networks.pretrained import copy_weights, load_imagenet, misfit, read_weights
from fcdd_sweep.networks.receptive_field import ReceptiveField
from fcdd_sweep.networks.registry import NETWORKS, TO_MAP, MethodName

ImageShape = tuple[int, int, int]


class BaseNetwork(nn.Module, ABC):
    """Base of the networks of all methods.

    Attributes:
        method: what it is trained for.
        in_shape: channels, height and width of its images.
        receptive_field: of the cells of its map, in input pixels. The map is the output of FCDD networks, and the
            input of the dense layers of the others.
        layout: of its weights in memory; who moves them says so.
        frozen: how many of its first layers are not trained: its frozen front. Their batch norms follow the data.
    """

    method: ClassVar[MethodName]
    layout: torch.memory_format = torch.contiguous_format

    def __init__(self, in_shape: ImageShape, field: ReceptiveField, frozen: int) -> None:
        super().__init__()
        self.in_shape = in_shape
        self.receptive_field = field
        self.frozen = frozen

    @property
    def draws(self) -> bool:
        """Whether it draws from torch's global generators in training mode, as dropout does."""
        return any(getattr(module, "p", 0) for module in self.modules())

    @property
    def front(self) -> nn.Sequential:
        """The layers of the frozen front, from (N, C, H, W) images to maps; none where all layers are trained."""
        return self._convolutional[: self.frozen]

    @property
    @abstractmethod
    def _convolutional(self) -> nn.Sequential: ...

    @abstractmethod
    def after_front(self, maps: Tensor) -> Tensor:
        """Return the network's output for what its front makes of images."""

    def upsample(self, maps: Tensor, std: float | None = None) -> Tensor:
        """Return anomaly maps as heatmaps; those of the baselines are over pixels and stay as they are."""
        return maps


class FCDDNet(BaseNetwork):
    """A fully convolutional network with one output cell per receptive field.

    Source: Liznerski et al., ICLR 2021 (arXiv:2007.01760), section 3.
    """

    method = "fcdd"

    def __init__(self, layers: nn.Sequential, in_shape: ImageShape, field: ReceptiveField, frozen: int = 0) -> None:
        super().__init__(in_shape, field, frozen)
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, 1, U, V) output cells, before any distance is computed."""
        return self.layers(images)

    @property
    def _convolutional(self) -> nn.Sequential:
        return self.layers

    def after_front(self, maps: Tensor) -> Tensor:
        return self.layers[self.frozen :](maps)

    def upsample(self, maps: Tensor, std: float | None = None) -> Tensor:
        """Upsample (N, 1, U, V) anomaly maps to (N, 1, H, W) heatmaps by a Gaussian per cell; differentiable.

        Args:
            maps: on any device; half precision is raised to float32, since the weights span many magnitudes.
            std: standard deviation of the Gaussian in pixels; None: by the receptive field's size.
        Source: the paper, section 3, heatmap upsampling; as two matrix products, see `metrics.heatmap_values`.
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
    """Return `upsampling_weights` on a device, copied once; not an inference tensor, since later calls may train."""
    with torch.inference_mode(mode=False):
        return torch.tensor(upsampling_weights(field, cells, out_size, std), dtype=kind, device=device)


class HSCNet(BaseNetwork):
    """A convolutional network followed by dense layers, for the hypersphere classifier (HSC)."""

    method = "hsc"

    def __init__(
        self, features: nn.Sequential, head: nn.Sequential, in_shape: ImageShape, field: ReceptiveField, frozen: int = 0
    ) -> None:
        super().__init__(in_shape, field, frozen)
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, D) codes."""
        return self.head(self.features(images))

    @property
    def _convolutional(self) -> nn.Sequential:
        return self.features

    def after_front(self, maps: Tensor) -> Tensor:
        return self.head(self.features[self.frozen :](maps))


class AENet(BaseNetwork):
    """An autoencoder: the network of the hypersphere classifier, followed by a decoder."""

    method = "ae"

    def __init__(self, encoder: HSCNet, decoder: nn.Sequential) -> None:
        super().__init__(encoder.in_shape, encoder.receptive_field, encoder.frozen)
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, C, H, W) reconstructions."""
        return self.decoder(self.encoder(images))

    @property
    def _convolutional(self) -> nn.Sequential:
        return self.encoder.features

    def after_front(self, maps: Tensor) -> Tensor:
        return self.decoder(self.encoder.after_front(maps))


def build_network(
    name: str,
    in_shape: ImageShape,
    bias: bool = True,  # noqa: FBT001, FBT002
    seed: int | None = None,
    weights: str | Path = "auto",
) -> FCDDNet | HSCNet | AENet:
    """Build a network of the registry, on the CPU.

    Args:
        name: one of `networks.registry.NETWORKS`.
        in_shape: channels, height and width of the images.
        bias: biases in convolutions and dense layers, and affine batch norms.
        seed: of the initial weights, drawn without advancing torch's global generator; None: draw from that one.
        weights: `auto` (as the registry has it), `imagenet`, `none`, or the path of a state dict.

    Raises:
        InputError: the network is unknown, or the images or the weights do not fit it.
    """
    network = Network.model_validate({"name": name, "bias": bias, "weights": weights})
    method = NETWORKS[name].method if name in NETWORKS else "fcdd"
    return network_of(network, method, in_shape, seed)


@contextlib.contextmanager
def global_draws(seed: int) -> Iterator[None]:
    """Seed torch's global generator of the CPU while entered, and restore it afterwards; one thread at a time."""
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


_GLOBAL = threading.RLock()


def network_of(
    network: Network,
    method: str,
    in_shape: ImageShape,
    seed: int | None,
    pretrained: bool = True,  # noqa: FBT001, FBT002
) -> FCDDNet | HSCNet | AENet:
    """Build the network of an experiment, on the CPU.

    Args:
        network: the section of the experiment.
        method: `fcdd`, `hsc` or `ae`.
        in_shape: channels, height and width of the images.
        seed: as for `build_network`.
        pretrained: False: read and download no weights, because the caller loads all of them next.

    Raises:
        InputError: the network is unknown, the images or the weights do not fit it, or the weights are not available.
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
    with contextlib.nullcontext() if seed is None else global_draws(seed):
        built = _build(network, in_shape, method)
    if pretrained and (start := starting_weights(network)) != "none":
        weights = read_weights(start) if isinstance(start, Path) else load_imagenet(network.backbone)
        if problem := misfit(weights, torchvision_tensors(built), str(start)):
            raise InputError(problem)
        copy_weights(weights, torchvision_tensors(built))
    return built


def problem_of_file(network: Network, method: str, channels: int, path: Path) -> Problem | None:
    """Return why a file of weights does not fit a network that is otherwise valid; None where it fits."""
    side = 224 if network.name is None else NETWORKS[network.name].input_size
    with torch.device("meta"):  # names and shapes are enough
        built = _build(network, (channels, side, side), method)
    try:
        return misfit(read_weights(path), torchvision_tensors(built), str(path))
    except InputError as error:
        return error.problems[0]


def torchvision_tensors(net: BaseNetwork) -> dict[str, Tensor]:
    """Return the tensors of a network that torchvision's model has, by torchvision's names, without copying them."""
    if isinstance(net, AENet):
        return torchvision_tensors(net.encoder)
    from fcdd_sweep.networks.backbones import Trunk  # see `_trunk`

    layers = net.layers[:-1] if isinstance(net, FCDDNet) else net.features
    if isinstance(layers[0], Trunk):
        return dict(layers[0].body.state_dict())
    tensors = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    if isinstance(net, HSCNet):
        numbers = ((name.partition("."), tensor) for name, tensor in net.head.state_dict().items())
        # pooling and flattening are layers of this head, and not of torchvision's `classifier`
        tensors |= {f"classifier.{int(number) - 2}.{last}": tensor for (number, _, last), tensor in numbers}
    return tensors


def _build(network: Network, in_shape: ImageShape, method: str) -> FCDDNet | HSCNet | AENet:
    """Build the network with random weights."""
    field = field_of(network, method, in_shape[2])
    bias, channels = network.bias, in_shape[0]
    features, shape = _features(network, in_shape)
    frozen = 0 if network.name is None else NETWORKS[network.name].frozen
    if method == "fcdd":
        to_map, _ = build_layers((TO_MAP,), shape, channels, bias=bias)
        return FCDDNet(nn.Sequential(*features, *to_map), in_shape, field, frozen)
    dense, decoder = _dense_and_decoder(network, shape, in_shape)
    head, code = build_layers(dense, shape, channels, bias=bias)
    if network.name is not None and NETWORKS[network.name].vgg:
        init_as_vgg(head)
    encoder = HSCNet(features, head, in_shape, field, frozen)
    return encoder if method == "hsc" else AENet(encoder, build_layers(decoder, code, channels, bias=bias)[0])


def _features(network: Network, in_shape: ImageShape) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Build the convolutional part without FCDD's last layer, and return it with its output shape (C, U, V)."""
    if network.name is None:
        return _trunk(network, in_shape)
    info = NETWORKS[network.name]
    layers = info.layers[:-1] if info.method == "fcdd" else info.layers
    features, shape = build_layers(layers, in_shape, in_shape[0], bias=network.bias)
    if info.vgg:
        init_as_vgg(features)
    features[: info.frozen].requires_grad_(requires_grad=False)
    return features, shape


def _trunk(network: Network, in_shape: ImageShape) -> tuple[nn.Sequential, tuple[int, ...]]:
    from fcdd_sweep.networks.backbones import Trunk  # imports torchvision, a third of a worker's start

    rescaling = starting_weights(network) != "none"
    trunk = Trunk(*cut_of(network), in_shape[0], rescaling=rescaling)
    with torch.no_grad():  # in evaluation mode: nothing is drawn, and batch norms learn nothing
        maps = trunk.eval()(torch.zeros(1, *in_shape))
    return nn.Sequential(trunk.train()), tuple(maps.shape[1:])


def _dense_and_decoder(
    network: Network, shape: tuple[int, ...], in_shape: ImageShape
) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """Return the dense layers and the decoder of a baseline."""
    if network.name is None:
        return dense_layers(*shape[1:]), decoder_to(*in_shape[1:])
    info = NETWORKS[network.name]
    return fit_decoder(info.head, info.decoder, *in_shape[1:]) if info.decoder else (info.head, ())
