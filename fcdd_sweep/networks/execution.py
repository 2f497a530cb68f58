"""How a network is computed where an experiment leaves it open: order of its tensors in memory, and precision.

Both change the last bits of numbers, so they are fixed by network, before anything runs: never by a timing, nor by the
machine at hand. The entries are from `benchmarks/throughput.py`; its README has the figures. Needs no torch.
"""

from __future__ import annotations

from typing import Literal

from fcdd_sweep.config.schema import Network, Settings
from fcdd_sweep.config.training_schema import Training

CONTEXT_MIB = 700
"""What a process takes of a GPU besides torch's allocator: CUDA's context and libraries. An estimate."""
_CONTIGUOUS: frozenset[str] = frozenset()
"""Networks whose training step is not quicker with channels last."""
_BF16 = frozenset({"FCDD_CNN28_W", "FCDD_CNN32_LW3K", "FCDD_CNN224_VGG_NOPT", "FCDD_CNN224_VGG", "FCDD_CNN224_VGG_F"})
"""Networks whose training step is several times quicker in bfloat16 on hardware that computes in it. A CPU that does
not takes two to three times as long."""


def layout_of(network: Network, training: Training) -> Literal["contiguous", "channels_last"]:
    """Return the order of weights and images in memory: `training.layout`, or what `auto` means for the network."""
    if training.layout != "auto":
        return training.layout
    return "contiguous" if network.name in _CONTIGUOUS else "channels_last"


def precision_of(network: Network, training: Training) -> Literal["fp32", "bf16"]:
    """Return the precision of training's convolutions: `training.precision`, or what `auto` means for the network."""
    if training.precision != "auto":
        return training.precision
    return "bf16" if network.name in _BF16 else "fp32"


def computed(settings: Settings) -> dict[str, str]:
    """Return what `auto` means for layout and precision in these settings, by key of `training`."""
    network, training = settings.network, settings.training
    return {"layout": layout_of(network, training), "precision": precision_of(network, training)}
