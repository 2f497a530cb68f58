"""Which trackers an experiment wants, and whether their packages are there; planning needs no more of them."""

from __future__ import annotations

import importlib.util

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Experiment, Trackers

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What each switch imports; `pip install 'fcdd_sweep[SWITCH]'` brings it."""


def switched_on(trackers: Trackers) -> list[str]:
    """Names of the trackers that an experiment wants."""
    wanted = {"tensorboard": trackers.tensorboard, "mlflow": trackers.mlflow, "wandb": trackers.wandb}
    return [name for name, switch in wanted.items() if switch]


def tracker_problems(experiment: Experiment) -> list[Problem]:
    """A problem for each tracker that is switched on and whose package is not installed."""
    return [
        Problem(
            experiment.origin.where(f"trackers.{name}"),
            f"the package {PACKAGES[name]} is not installed",
            next_step=f"Install it: pip install 'fcdd_sweep[{name}]', or switch the tracker off",
        )
        for name in switched_on(experiment.trackers)
        if importlib.util.find_spec(PACKAGES[name]) is None
    ]
