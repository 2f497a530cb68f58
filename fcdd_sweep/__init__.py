"""Distributed class x seed x config sweeps for FCDD, the explainable deep one-class classifier.

The names below load their rooms only when they are used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcdd_sweep.config.loading import load_experiment
    from fcdd_sweep.report.aggregate import aggregate
    from fcdd_sweep.run import run_experiment
    from fcdd_sweep.search.search import run_search
    from fcdd_sweep.sweep.sweep import run_sweep
    from fcdd_sweep.training.detector import load_detector

__all__ = ["aggregate", "load_detector", "load_experiment", "run_experiment", "run_search", "run_sweep"]
_HOME = {
    "aggregate": "fcdd_sweep.report.aggregate",
    "load_detector": "fcdd_sweep.training.detector",
    "load_experiment": "fcdd_sweep.config.loading",
    "run_experiment": "fcdd_sweep.run",
    "run_search": "fcdd_sweep.search.search",
    "run_sweep": "fcdd_sweep.sweep.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
