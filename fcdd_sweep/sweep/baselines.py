"""Baselines of a finished run: HSC and AE with its settings, on its classes and seeds, beside its own heatmaps.

They are a run of their own in RUN/baselines: an experiment whose variants are the run's configs under the other
methods. It resumes, reports and is predicted from like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.expand import Config, configs_of
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.origin import Origin
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.vary import may_vary
from fcdd_sweep.config.yaml_text import parse_value
from fcdd_sweep.networks.describe import counterpart
from fcdd_sweep.report.comparison import combine
from fcdd_sweep.report.records import read_plan
from fcdd_sweep.results import tree
from fcdd_sweep.sweep.monitor import Work
from fcdd_sweep.sweep.sweep import Progress, SweepResult, run_sweep
from fcdd_sweep.sweep.trial import run_trial

METHODS = tree.BASELINES


@dataclass(frozen=True)
class Baselines:
    """What running the baselines gave.

    Attributes:
        sweep: how their own sweep ended.
        comparison: the page that shows the methods beside each other; None after an interruption.
    """

    sweep: SweepResult
    comparison: Path | None


def baselines_of(run_dir: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a run's baselines.

    Args:
        run_dir: a run of FCDD.
        overrides: `training.epochs=3` for both baselines, `ae.training.learning_rate=0.001` for one of them.
    Raises:
        InputError: `run_dir` is no run, is itself one of baselines, or its experiment is not FCDD's; an override that
            cannot be read.
    """
    given = {method: dict(_override(text, method) for text in overrides if _meant(text, method)) for method in METHODS}
    read_plan(run_dir)  # says in words what is wrong when this is no run
    original = load_experiment(run_dir / tree.EXPERIMENT)
    configs = configs_of(original)
    others = sorted({config.settings.method for config in configs} - {"fcdd"})
    if others:
        what = f"the run trains {', '.join(others)}, and baselines are made for runs of fcdd alone"
        raise InputError(Problem(str(run_dir), what, next_step="Name the run that the baselines belong to"))
    variants = {
        tree.baseline_config(config.name, method): _changes(config, method) | given[method]
        for config in configs
        for method in METHODS
    }
    return original.model_copy(
        update={
            "name": tree.BASELINES_DIR,
            "output": run_dir.absolute(),
            "preset": None,
            "grid": {},
            "variants": variants,
            "heatmaps": original.heatmaps.model_copy(update={"blur": True}),
        }
    ).with_origin(Origin())


def _meant(text: str, method: str) -> bool:
    """Whether an override is for this method: its key begins with the method's name, or with no method's."""
    return text.partition(".")[0] not in set(METHODS) - {method}


def _override(text: str, method: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix(f"{method}.").partition("=")
    if not equals or not may_vary(key):
        allowed = "KEY=VALUE, hsc.KEY=VALUE or ae.KEY=VALUE, with a key that configs may differ in"
        raise InputError(Problem(f"--set {text}", "this sets nothing of a baseline", allowed))
    return key, parse_value(value, f"--set {text}")


def _changes(config: Config, method: str) -> dict[str, Any]:
    """What makes the counterpart of a config: its own values, the method, its network, and labels alone.

    The hypersphere classifier sees the config's anomalies, the autoencoder none.
    """
    own = {key: value for key, value in config.parameters.items() if key != "variant"}
    network = counterpart(config.settings.network, method)
    changed: dict[str, Any] = {
        "method": method,
        "network": network.model_dump(mode="json", exclude_none=True),
        "training.supervision": "labels",
    }
    anomalies = config.settings.anomalies
    if method == "ae":
        changed["anomalies"] = {"mode": "unsupervised"}
    elif anomalies.mode == "malformed_normal_gt":
        changed["anomalies.mode"] = "malformed_normal"
    elif anomalies.source == "mvtec_gt":
        changed["anomalies.source"] = "mvtec"
    sections = {key.split(".")[0] for key in changed if "." not in key}
    return {key: value for key, value in own.items() if key.split(".")[0] not in sections} | changed


def run_baselines(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    progress: Progress | None = None,
    work: Work = run_trial,
) -> Baselines:
    """Do what is missing of a run's baselines, then draw all methods beside each other.

    Args:
        run_dir: a run of FCDD; trials of it that are not done are not compared.
        overrides: see `baselines_of`.
        local, progress, work: see `run_sweep`.
    Raises:
        InputError: as `baselines_of` and `run_sweep`.
    """
    result = run_sweep(baselines_of(run_dir, overrides), local=local, progress=progress, work=work)
    return Baselines(result, None if result.interrupted else combine(run_dir))
