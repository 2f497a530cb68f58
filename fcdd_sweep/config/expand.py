"""Grid and variants: from one experiment to its configs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.explain import Fault, validated
from fcdd_sweep.config.layers import Layer, lay, nest, split_key, value_at
from fcdd_sweep.config.origin import Key, Origin, Place
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.trial import config_id, slug
from fcdd_sweep.config.vary import grid_of, may_vary, variant_of, variants_of, varying_problems
from fcdd_sweep.config.words import show

MAX_CONFIGS = 10_000
"""More than anybody means to train; a larger product is a slip."""

_MAX_NAME = 120
"""Characters of a config's folder name; file systems take 255 bytes."""


@dataclass(frozen=True)
class Config:
    """Settings that all classes and seeds share.

    Attributes:
        name: its folder, readable and unique; empty when the experiment has one config.
        settings: what its trials are told.
        parameters: the value of every key in which the experiment's configs differ, and the variant's name.
        origin: where each value was written.
    """

    name: str
    settings: Settings
    parameters: dict[str, Any] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    @cached_property
    def config_id(self) -> str:
        return config_id(self.settings)


@dataclass(frozen=True)
class Choice:
    """One value of a grid's key, or one variant: dotted keys, their values and where they are written."""

    label: str
    values: Mapping[str, Any]
    written: Mapping[str, Key]
    variant: str = ""


def configs_of(experiment: Experiment) -> tuple[Config, ...]:
    """The product of variants and grid, in the order of the file; variants vary slowest.

    Raises:
        ExperimentError: a key that may not vary, a value that is not allowed, a config that comes twice.
    """
    layer = Layer(experiment.model_dump(mode="json", by_alias=True), dict(experiment.origin.places))
    configs, problems = expand(layer)
    if problems:
        raise ExperimentError(problems)
    return tuple(configs)


def expand(layer: Layer) -> tuple[list[Config], list[Problem]]:
    """The configs of an experiment's plain values, or everything that is wrong with its grid and variants.

    What is wrong with the experiment itself is left to others to report; there are no configs then.
    """
    axes = _axes(layer)
    _, base_faults = settings_of(layer)
    problems = varying_problems(layer)
    problems += [problem for axis in axes for choice in axis for problem in value_problems(layer, choice, base_faults)]
    if problems or base_faults:
        return [], list(dict.fromkeys(problems))
    count = math.prod(map(len, axes))
    if count > MAX_CONFIGS:
        return [], [Problem(layer.origin.where("grid"), f"it gives {count:,} configs", f"at most {MAX_CONFIGS:,}")]
    return _product(layer, axes)


def _axes(layer: Layer) -> list[list[Choice]]:
    variants = [_variant_choice(layer, name) for name in variants_of(layer)]
    grid = grid_of(layer)
    short = short_names(list(grid))
    axes = [[_grid_choice(short[key], key, *item) for item in enumerate(values)] for key, values in grid.items()]
    return [axis for axis in (variants, *axes) if axis]


def _variant_choice(layer: Layer, name: str) -> Choice:
    values = variant_of(layer, name)
    return Choice(name, values, {key: ("variants", name, key) for key in values}, variant=name)


def _grid_choice(short: str, key: str, index: int, value: Any) -> Choice:
    return Choice(f"{short}-{value_slug(value)}", {key: value}, {key: ("grid", key, index)})


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The fewest last parts of each dotted key that tell it from the others; `name` alone tells nothing."""
    short = {}
    for key in keys:
        parts = key.split(".")
        if parts[-1] == "name" and len(parts) > 1:
            parts = parts[:-1]
        others = [other for other in keys if other != key]
        depth = 1
        while depth < len(parts) and any(f".{other}".endswith("." + ".".join(parts[-depth:])) for other in others):
            depth += 1
        short[key] = slug("-".join(parts[-depth:]))
    return short


def value_slug(value: Any) -> str:
    """A value as a part of a folder's name: its own text, or the texts inside it."""
    if isinstance(value, dict):
        return "-".join(value_slug(item) for item in value.values())
    if isinstance(value, list):
        return "-".join(map(value_slug, value))
    text = value.rstrip("/").rsplit("/", 1)[-1] if isinstance(value, str) else show(value)
    # A minus sign must survive: -1 and 1 are two values.
    return f"-{slug(text)}" if text.startswith("-") else slug(text)


def settings_of(layer: Layer) -> tuple[Settings | None, list[Fault]]:
    tree = {name: value for name, value in layer.tree.items() if name in Settings.model_fields}
    return validated(Settings, tree, layer.origin)


def applied(layer: Layer, choices: Sequence[Choice]) -> Layer:
    """The experiment with the choices' values laid over it, all at once so that their order does not count."""
    upper = Layer({})
    for choice in choices:
        for key, value in choice.values.items():
            place = Place(layer.origin.where(choice.written[key]), names_key=True)
            upper = lay(Layer(nest(split_key(key), value), {split_key(key): place}), upper)
    return lay(upper, layer)


def value_problems(layer: Layer, choice: Choice, base_faults: list[Fault]) -> Iterator[Problem]:
    """What is wrong with these values whatever the others are; contradictions between keys come out in the product."""
    _, found = settings_of(applied(layer, [choice]))
    for key in map(split_key, filter(may_vary, choice.values)):
        for fault in found:
            if fault.key[: len(key)] == key and fault not in base_faults:
                yield fault.problem


def _product(layer: Layer, axes: list[list[Choice]]) -> tuple[list[Config], list[Problem]]:
    configs: list[Config] = []
    problems: dict[tuple[str, str], Problem] = {}
    for choices in itertools.product(*axes):
        name = "_".join(choice.label for choice in choices)
        chosen = applied(layer, choices)
        settings, found = settings_of(chosen)
        for problem in (fault.problem for fault in found):
            problems.setdefault((problem.where, problem.what), replace(problem, what=f"{problem.what} (config {name})"))
        if settings is not None:
            variants = [choice.variant for choice in choices if choice.variant]
            parameters = {"variant": variants[0]} if variants else {}
            configs.append(Config(name, settings, parameters, chosen.origin))
    configs = _with_parameters(configs, [key for axis in axes for choice in axis for key in choice.values])
    same = list(_same_twice(layer, configs))
    return ([], [*problems.values(), *same]) if problems or same else (_with_unique_names(configs), [])


def _with_parameters(configs: list[Config], keys: list[str]) -> list[Config]:
    """Every config with its value of every key that any config sets: rows of one table."""
    filled = []
    for config in configs:
        plain = config.settings.model_dump(mode="json")
        values = {key: value_at(plain, split_key(key)) for key in dict.fromkeys(keys)}
        filled.append(replace(config, parameters={**config.parameters, **values}))
    return filled


def _same_twice(layer: Layer, configs: list[Config]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for config in configs:
        other = first.setdefault(config.config_id, config.name)
        if other != config.name:
            where = layer.origin.where("variants" if "variant" in config.parameters else "grid")
            what = f"the configs {other} and {config.name} are the same and would be trained twice"
            yield Problem(where, what, next_step="Remove one of them")


def _with_unique_names(configs: list[Config]) -> list[Config]:
    """A part of the config's id follows a name that is too long, or that two configs share."""
    count = Counter(config.name.casefold() for config in configs)
    return [
        config
        if count[config.name.casefold()] == 1 and len(config.name) <= _MAX_NAME
        else replace(config, name=f"{config.name[:_MAX_NAME]}_{config.config_id[:6]}")
        for config in configs
    ]
