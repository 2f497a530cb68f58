"""Networks of FCDD and its baselines, their receptive fields and upsampling.

`registry`, `layers`, `receptive_field` and most of `describe` need no torch, so that plans are made without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fcdd_sweep.networks.build import build_network

__all__ = ["build_network"]


def __getattr__(name: str) -> object:
    if name == "build_network":
        from fcdd_sweep.networks.build import build_network

        return build_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
