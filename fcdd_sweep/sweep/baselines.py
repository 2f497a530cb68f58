"""Baselines of a finished run: HSC and AE on its classes and seeds, compared with it. HSC has its settings, AE all but
optimizer and learning rate.

The baselines are a separate run in RUN/baselines, an experiment whose variants are the run's configs under the other
methods. It resumes, reports and predicts like any other run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from fcdd_sweep.config.errors import InputError, Origin, Problem
from fcdd_sweep.config.grid import Config, configs_of, may_vary
from fcdd_sweep.config.layers import ConfigLayer, nest, overlay, split_key
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.config.presets import AUTOENCODER_TRAINING
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import canonical
from fcdd_sweep.config.yaml_text import parse_value
from fcdd_sweep.networks.describe import counterpart
from fcdd_sweep.planning.anomaly_checks import reserved_per_defect
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.report.page.comparison import COMPARISON_HTML, combine
from fcdd_sweep.report.run_files import read_plan
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import check_run_version, write_text
from fcdd_sweep.results.lease import check_writable
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location, check_reachable, local_copy
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.sweep.session import RunKeywords, SweepResult
from fcdd_sweep.sweep.sweep import run_sweep

BASELINE_METHODS = tree.BASELINES
_OWN_SECTIONS = ("anomalies", "network", "preprocessing", "training")
"""Sections that may differ between a baseline and the run; images and tests must be the same."""
Counterparts = dict[str, dict[str, str]]
"""Name of the baseline's config by config and method."""


@dataclass(frozen=True)
class Baselines:
    """How running the baselines ended.

    Attributes:
        sweep: how their sweep ended.
        comparison: the page that compares the methods; None after an interruption.
    """

    sweep: SweepResult
    comparison: Location | None


def baselines_of(run_dir: Location, overrides: Sequence[str] = ()) -> tuple[Experiment, Counterparts]:
    """Return the experiment of a run's baselines, and which of its variants belongs to which config.

    Configs with equal baselines share one: the autoencoder trains on no anomalies, so a grid over them gives one.

    Args:
        run_dir: a run of FCDD.
        overrides: `training.epochs=3` for both baselines, `ae.training.learning_rate=0.001` for one of them.
    Raises:
        InputError: `run_dir` is not a run, is a run of baselines or a search, or trains another method than FCDD; an
            override that cannot be read.
    """
    parsed = {
        method: [_override(text, method) for text in overrides if _is_for(text, method)] for method in BASELINE_METHODS
    }
    original = _original_experiment(run_dir)
    configs = configs_of(original)
    _check_method(run_dir, configs)
    variants, counterparts = _variants(configs, parsed)
    reserved = max(reserved_per_defect(config.settings) for config in configs)  # all methods have the same test images
    baselines = original.model_copy(
        update={
            "name": tree.BASELINES_DIR,
            "output": parse_location(run_dir),
            "preset": None,
            "grid": {},
            "variants": variants,
            "heatmaps": original.heatmaps.model_copy(update={"blur": True}),
            "evaluation": original.evaluation.model_copy(update={"reserved_anomalies": reserved}),
        }
    )
    return baselines.with_origin(Origin()), counterparts


def _original_experiment(run_dir: Location) -> Experiment:
    check_reachable(run_dir)
    check_run_version(run_dir)
    read_plan(run_dir)  # raises if this is not a run directory
    with local_copy(RunPaths(run_dir).experiment) as path:
        original = load_experiment(path)
    if original.search is not None:
        step = "Write the values of the config into a file without `search`, run that, and make its baselines"
        raise InputError(Problem(str(run_dir), "the run is a search, whose configs have no baselines", next_step=step))
    return original


def _check_method(run_dir: Location, configs: Sequence[Config]) -> None:
    others = sorted({config.settings.method for config in configs} - {"fcdd"})
    if others:
        what = f"the run trains {', '.join(others)}, and baselines are made for runs of fcdd only"
        raise InputError(Problem(str(run_dir), what, next_step="Name the run that the baselines belong to"))


def _variants(
    configs: Sequence[Config], overrides: Mapping[str, Sequence[tuple[str, Any]]]
) -> tuple[dict[str, dict[str, Any]], Counterparts]:
    """Return the settings of every variant by name, and which variant belongs to which config and method."""
    variants: dict[str, dict[str, Any]] = {}
    counterparts: Counterparts = {}
    names: dict[str, str] = {}
    for config in configs:
        for method in BASELINE_METHODS:
            if method == "ae" and config.settings.images.nominal_label:
                continue  # it reconstructs the normal class and cannot push it away
            changes = _changes(config, method, overrides[method])
            name = names.setdefault(canonical(changes), tree.baseline_config(config.name, method))
            variants[name] = changes
            counterparts.setdefault(config.name, {})[method] = name
    return variants, counterparts


def _is_for(text: str, method: str) -> bool:
    """Return whether an override is for this method: its key starts with the method's name, or with no method's."""
    return text.partition(".")[0] not in set(BASELINE_METHODS) - {method}


def _override(text: str, method: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix(f"{method}.").partition("=")
    if not equals or not may_vary(key) or key.split(".")[0] not in _OWN_SECTIONS:
        allowed = f"KEY=VALUE, hsc.KEY=VALUE or ae.KEY=VALUE, with a key of {', '.join(_OWN_SECTIONS)}"
        raise InputError(Problem(f"--set {text}", "a baseline must not differ from the run in this", allowed))
    return key, parse_value(value, f"--set {text}")


def _changes(config: Config, method: str, overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return what makes the counterpart of a config: its values, the method, its network, and supervision by labels.

    The hypersphere classifier trains on the config's anomalies, the autoencoder on none, with optimizer and learning
    rate of its own. Overrides come last.
    """
    changed: dict[str, Any] = {
        "method": method,
        "network": counterpart(config.settings.network, method).model_dump(mode="json", exclude_none=True),
        "training": {"supervision": "labels"},
    }
    anomalies = config.settings.anomalies
    if method == "ae":
        changed["anomalies"] = {"mode": "unsupervised"}
        changed["training"] |= AUTOENCODER_TRAINING
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


def _dotted(sections: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a tree as a variant writes it: network and anomalies whole, other sections key by key."""
    for section, value in sections.items():
        if isinstance(value, dict) and section not in ("network", "anomalies"):
            yield from ((f"{section}.{key}", item) for key, item in value.items())
        else:
            yield section, value


def run_baselines(
    run_dir: Location,
    overrides: Sequence[str] = (),
    **keywords: Unpack[RunKeywords],
) -> Baselines:
    """Run the missing trials of a run's baselines, then draw all methods beside each other.

    Args:
        run_dir: a run of FCDD; only its finished trials are compared.
        overrides: see `baselines_of`.
        keywords: `local`, `address`, `changed_data`, `progress`, `work`, see `sweep.session.RunOptions`.
    Raises:
        InputError: see `baselines_of` and `run_sweep`.
    """
    experiment, counterparts = baselines_of(run_dir, overrides)
    planned = plan(experiment)  # raises before anything is written
    check_writable(experiment.run_dir)
    write_text(RunPaths(experiment.run_dir).counterparts, json.dumps(counterparts, indent=2) + "\n")
    result = run_sweep(planned, **keywords)
    if result.interrupted:
        return Baselines(result, None)
    with mirrored(run_dir) as folder:
        combine(folder)
    return Baselines(result, experiment.run_dir / COMPARISON_HTML)
