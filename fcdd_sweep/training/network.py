"""What training needs of a network. The networks themselves are built by `networks.build`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, device, memory_format, nn

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.execution import precision_of
from fcdd_sweep.networks.receptive_field import ReceptiveField
from fcdd_sweep.networks.registry import MethodName


class DetectionNetwork(Protocol):
    """A torch module of one of the three methods, as `networks.build.network_of` returns it.

    Attributes:
        method: what it is trained for.
        receptive_field: of the cells of its map, in input pixels; `width` is the number of cells along an axis.
        training: whether it is in training mode.
        layout: of its weights in memory.
        frozen: how many of its first layers are not trained: its frozen front. Their batch norms follow the data.
    """

    method: MethodName
    receptive_field: ReceptiveField
    training: bool
    layout: memory_format
    frozen: int

    @property
    def draws(self) -> bool:
        """Whether it draws from torch's global generators in training mode, as dropout does."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Map (N, C, S, S) images to (N, 1, U, V) cells (`fcdd`), (N, D) codes (`hsc`) or reconstructions (`ae`)."""
        ...

    @property
    def front(self) -> nn.Sequential:
        """The layers of the frozen front, from (N, C, S, S) images to maps; none where all layers are trained."""
        ...

    def after_front(self, maps: Tensor) -> Tensor:
        """Return the network's output for what its front makes of images."""
        ...

    def upsample(self, maps: Tensor, std: float | None = None) -> Tensor:
        """Upsample (N, 1, U, V) anomaly maps to (N, 1, S, S) heatmaps by a Gaussian of `std` pixels."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object: ...

    def train(self, mode: bool = True) -> DetectionNetwork: ...  # noqa: FBT001, FBT002  (torch's signature)

    def eval(self) -> DetectionNetwork: ...

    def to(self, device: device, *, memory_format: memory_format) -> object: ...


def outputs_of(network: DetectionNetwork, inputs: Tensor) -> Tensor:
    """Return what a network makes of (N, C, S, S) images, in the layout of its weights, which decides the last bits."""
    return network(inputs.contiguous(memory_format=network.layout))


def front_of(network: DetectionNetwork, inputs: Tensor) -> Tensor:
    """Return what the frozen front of a network makes of (N, C, S, S) images, as within `outputs_of`."""
    maps: Tensor = network.front(inputs.contiguous(memory_format=network.layout))
    return maps


def training_precision(settings: Settings, device: device) -> torch.autocast:
    """Return a context in which a trial's forward pass has its precision: bfloat16 where the settings ask for it."""
    half = precision_of(settings.network, settings.training) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
