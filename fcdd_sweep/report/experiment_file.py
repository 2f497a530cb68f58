"""The settings that tell a run and its configs, from the run's own experiment file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fcdd_sweep.config.layers import ConfigLayer, Tree, nest, overlay, split_key
from fcdd_sweep.report.run_files import Run

_TOLD = (
    ("data set", ("dataset.name",)),
    ("classes", ("dataset.classes",)),
    ("image side", ("images.size",)),
    ("method", ("method",)),
    ("network", ("network.name", "network.backbone", "network.node")),
    ("training anomalies", ("anomalies.mode", "anomalies.source")),
    ("anomaly limit", ("anomalies.limit",)),
    ("preprocessing", ("preprocessing",)),
    ("epochs", ("training.epochs",)),
    ("batch size", ("training.batch_size",)),
    ("optimizer, learning rate", ("training.optimizer", "training.learning_rate")),
    ("supervision", ("training.supervision",)),
    ("seeds: how many, or which", ("seeds",)),
    ("grid", ("grid",)),
)
"""What a report tells of the experiment file, where the file has it."""
COMPARED = (
    "network",
    "image side",
    "training anomalies",
    "supervision",
    "preprocessing",
    "epochs",
    "batch size",
    "optimizer, learning rate",
)
"""What is told of the methods that are compared."""
_NAMED = 4
"""With up to so many configs, each value is told with its configs' names."""


def overview(run: Run) -> list[tuple[str, str]]:
    """Name and value of the settings that tell an experiment; where configs differ, of each of them.

    Empty when the run's experiment file cannot be read.
    """
    configs = run.configs or [""]
    told = {config: described(run, config) for config in configs}
    rows = []
    for name, _ in _TOLD:
        by_value: dict[str, list[str]] = {}
        for config in configs:
            by_value.setdefault(told[config].get(name, ""), []).append(config)
        if any(by_value):
            rows.append((name, _by_config(by_value)))
    return rows


def described(run: Run, config: str) -> dict[str, str]:
    """Name and value of the settings of one config, those that it has."""
    plain = _resolved(run, config)
    found = {}
    for name, keys in _TOLD:
        values = [value for key in keys if (value := _lookup(plain, key)) not in (None, {}, [])]
        if values:
            found[name] = ", ".join(map(_text, values))
    return found


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _by_config(by_value: Mapping[str, list[str]]) -> str:
    if len(by_value) == 1:
        return next(iter(by_value))
    if sum(map(len, by_value.values())) <= _NAMED:
        return "; ".join(f"{value or 'none'} ({', '.join(configs)})" for value, configs in by_value.items())
    return "by config: " + "; ".join(value or "none" for value in by_value)


def _resolved(run: Run, config: str) -> Tree:
    """The experiment's plain values with those of one config laid over them."""
    try:
        plain = YAML(typ="safe", pure=True).load(run.experiment)
    except YAMLError:
        return {}
    if not isinstance(plain, dict):
        return {}
    parameters = next((trial.parameters for trial in run.of(config)), {})
    variants = plain.get("variants")
    of_variant = variants.get(parameters.get("variant")) if isinstance(variants, dict) else None
    layer = ConfigLayer(plain)
    for key, value in {**(of_variant or {}), **parameters}.items():
        layer = overlay(ConfigLayer(nest(split_key(key), value)), layer)
    return layer.tree


def _lookup(plain: Any, key: str) -> Any:
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, Mapping) else None
    return plain
