"""Baselines of a finished run: HSC and AE with its settings, on its classes and seeds, beside its own heatmaps.

They are a run of their own in RUN/baselines: an experiment whose variants are the run's configs under the other
methods. It resumes, reports and is predicted from like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fcdd_sweep.config.errors import InputError, Origin, Problem
from fcdd_sweep.config.grid import Config, configs_of, may_vary
from fcdd_sweep.config.layers import ConfigLayer, nest, overlay, split_key
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import canonical
from fcdd_sweep.config.yaml_text import parse_value
from fcdd_sweep.networks.describe import counterpart
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.planning.reserved_anomalies import reserved_per_defect
from fcdd_sweep.report.page.comparison import COMPARISON_HTML, combine
from fcdd_sweep.report.run_files import read_plan
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location, check_reachable, local_copy
from fcdd_sweep.runners.events import Progress, Work
from fcdd_sweep.sweep.session import OnChangedData, SweepResult
from fcdd_sweep.sweep.sweep import run_sweep

BASELINE_METHODS = tree.BASELINES
_OWN_SECTIONS = ("anomalies", "network", "preprocessing", "training")
"""What a baseline may be told apart from the run; images and tests must be the same."""
Counterparts = dict[str, dict[str, str]]
"""By config and method, the name of the baseline's config."""


@dataclass(frozen=True)
class Baselines:
    """What running the baselines gave.

    Attributes:
        sweep: how their own sweep ended.
        comparison: the page that shows the methods beside each other; None after an interruption.
    """

    sweep: SweepResult
    comparison: Location | None


def baselines_of(run_dir: Location, overrides: Sequence[str] = ()) -> tuple[Experiment, Counterparts]:
    """The experiment of a run's baselines, and which of its variants stands beside which config.

    Configs whose baseline is the same share one: the autoencoder sees no anomalies, so a grid over them gives one.

    Args:
        run_dir: a run of FCDD.
        overrides: `training.epochs=3` for both baselines, `ae.training.learning_rate=0.001` for one of them.
    Raises:
        InputError: `run_dir` is no run, is itself one of baselines, or its experiment is not FCDD's; an override that
            cannot be read.
    """
    given = {
        method: [_override(text, method) for text in overrides if _meant(text, method)] for method in BASELINE_METHODS
    }
    check_reachable(run_dir)
    read_plan(run_dir)  # says in words what is wrong when this is no run
    with local_copy(run_dir / tree.EXPERIMENT) as path:
        original = load_experiment(path)
    if original.search is not None:
        step = "Write the values of the config into a file without `search`, run that, and make its baselines"
        raise InputError(Problem(str(run_dir), "the run is a search, whose configs have no baselines", next_step=step))
    configs = configs_of(original)
    others = sorted({config.settings.method for config in configs} - {"fcdd"})
    if others:
        what = f"the run trains {', '.join(others)}, and baselines are made for runs of fcdd alone"
        raise InputError(Problem(str(run_dir), what, next_step="Name the run that the baselines belong to"))
    variants: dict[str, dict[str, Any]] = {}
    counterparts: Counterparts = {}
    first: dict[str, str] = {}
    for config in configs:
        for method in BASELINE_METHODS:
            if method == "ae" and config.settings.images.nominal_label:
                continue  # it rebuilds the normal class and cannot push it away
            changes = _changes(config, method, given[method])
            name = first.setdefault(canonical(changes), tree.baseline_config(config.name, method))
            variants[name] = changes
            counterparts.setdefault(config.name, {})[method] = name
    aside = max(reserved_per_defect(config.settings) for config in configs)  # all methods are tested on the same images
    baselines = original.model_copy(
        update={
            "name": tree.BASELINES_DIR,
            "output": parse_location(run_dir),
            "preset": None,
            "grid": {},
            "variants": variants,
            "heatmaps": original.heatmaps.model_copy(update={"blur": True}),
            "evaluation": original.evaluation.model_copy(update={"reserved_anomalies": aside}),
        }
    )
    return baselines.with_origin(Origin()), counterparts


def _meant(text: str, method: str) -> bool:
    """Whether an override is for this method: its key begins with the method's name, or with no method's."""
    return text.partition(".")[0] not in set(BASELINE_METHODS) - {method}


def _override(text: str, method: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix(f"{method}.").partition("=")
    if not equals or not may_vary(key) or key.split(".")[0] not in _OWN_SECTIONS:
        allowed = f"KEY=VALUE, hsc.KEY=VALUE or ae.KEY=VALUE, with a key of {', '.join(_OWN_SECTIONS)}"
        raise InputError(Problem(f"--set {text}", "this is nothing that a baseline may have of its own", allowed))
    return key, parse_value(value, f"--set {text}")


def _changes(config: Config, method: str, overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What makes the counterpart of a config: its own values, the method, its network, and labels alone.

    The hypersphere classifier sees the config's anomalies, the autoencoder none. Overrides come last.
    """
    changed: dict[str, Any] = {
        "method": method,
        "network": counterpart(config.settings.network, method).model_dump(mode="json", exclude_none=True),
        "training": {"supervision": "labels"},
    }
    anomalies = config.settings.anomalies
    if method == "ae":
        changed["anomalies"] = {"mode": "unsupervised"}
    elif anomalies.mode == "malformed_normal_gt":
        changed["anomalies"] = {"mode": "malformed_normal"}
    elif anomalies.source == "mvtec_gt":
        changed["anomalies"] = {"source": "mvtec"}
    own = ConfigLayer({})
    for key, value in config.parameters.items():
        if key != "variant" and not key.startswith("network") and not (method == "ae" and key.startswith("anomalies")):
            own = overlay(ConfigLayer(nest(split_key(key), value)), own)
    layer = overlay(ConfigLayer(changed), own)
    for key, value in overrides:
        layer = overlay(ConfigLayer(nest(split_key(key), value)), layer)
    return dict(_dotted(layer.tree))


def _dotted(plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A tree as a variant writes it: network and anomalies whole, other sections key by key."""
    for section, value in plain.items():
        if isinstance(value, dict) and section not in ("network", "anomalies"):
            yield from ((f"{section}.{key}", item) for key, item in value.items())
        else:
            yield section, value


def run_baselines(
    run_dir: Location,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    address: str | None = None,
    changed_data: OnChangedData = "stop",
    progress: Progress | None = None,
    work: Work | None = None,
) -> Baselines:
    """Do what is missing of a run's baselines, then draw all methods beside each other.

    Args:
        run_dir: a run of FCDD; trials of it that are not done are not compared.
        overrides: see `baselines_of`.
        local, address, changed_data, progress, work: see `run_sweep`.
    Raises:
        InputError: as `baselines_of` and `run_sweep`.
    """
    experiment, counterparts = baselines_of(run_dir, overrides)
    plan(experiment)  # bad input leaves no folder
    write_text(experiment.run_dir / tree.COUNTERPARTS, json.dumps(counterparts, indent=2) + "\n")
    result = run_sweep(
        experiment, local=local, address=address, changed_data=changed_data, progress=progress, work=work
    )
    if result.interrupted:
        return Baselines(result, None)
    with mirrored(run_dir) as folder:
        combine(folder)
    return Baselines(result, experiment.run_dir / COMPARISON_HTML)
