"""FCDD networks, their receptive fields and upsampling. `registry` and `receptive_field` need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcdd_sweep.networks.build import build_network

__all__ = ["build_network"]


def __getattr__(name: str) -> Any:
    if name == "build_network":
        from fcdd_sweep.networks.build import build_network

        return build_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
