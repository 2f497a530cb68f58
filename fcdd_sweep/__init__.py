"""Distributed class x seed x config sweeps for FCDD, the explainable deep one-class classifier.

The names below load their rooms only when they are used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcdd_sweep.api import run_experiment, run_search, run_sweep
    from fcdd_sweep.config.errors import InputError
    from fcdd_sweep.config.loading import load_experiment
    from fcdd_sweep.export import export_onnx
    from fcdd_sweep.report.aggregate import aggregate
    from fcdd_sweep.report.frames import Run
    from fcdd_sweep.training.detector import load_detector

__all__ = [
    "InputError",
    "Run",
    "aggregate",
    "export_onnx",
    "load_detector",
    "load_experiment",
    "run_experiment",
    "run_search",
    "run_sweep",
]
_HOME = {
    "InputError": "fcdd_sweep.config.errors",
    "Run": "fcdd_sweep.report.frames",
    "aggregate": "fcdd_sweep.report.aggregate",
    "export_onnx": "fcdd_sweep.export",
    "load_detector": "fcdd_sweep.training.detector",
    "load_experiment": "fcdd_sweep.config.loading",
    "run_experiment": "fcdd_sweep.api",
    "run_search": "fcdd_sweep.api",
    "run_sweep": "fcdd_sweep.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, without the rooms that happen to be loaded."""
    return list(__all__)
