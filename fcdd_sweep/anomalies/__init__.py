"""Training anomalies: modes and sources, limits, rendering. `registry` and `limits` need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcdd_sweep.anomalies.synthetic import render

__all__ = ["render"]


def __getattr__(name: str) -> Any:
    if name == "render":
        from fcdd_sweep.anomalies.synthetic import render

        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
