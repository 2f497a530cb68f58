"""What training needs of a network. The networks themselves are built by `networks.build`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor, device, memory_format, nn

from fcdd_sweep.networks.receptive_field import ReceptiveField
from fcdd_sweep.networks.registry import MethodName


class DetectionNetwork(Protocol):
    """A torch module of one of the three methods, as `networks.build.network_of` returns it.

    Attributes:
        method: what it is trained for.
        receptive_field: of the cells of its map, in input pixels; `width` is the number of cells along an axis.
        training: whether it is in training mode.
        layout: of its weights in memory.
    """

    method: MethodName
    receptive_field: ReceptiveField
    training: bool
    layout: memory_format

    @property
    def draws(self) -> bool:
        """Whether it draws from torch's global generators in training mode, as dropout does."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Map (N, C, S, S) images to (N, 1, U, V) cells (`fcdd`), (N, D) codes (`hsc`) or reconstructions (`ae`)."""
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
