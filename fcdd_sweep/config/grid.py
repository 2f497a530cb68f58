"""Grid and variants: the keys that may vary, checks of their values, and the product of configs."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fcdd_sweep.config.errors import ExperimentError, Key, Origin, Problem, SourceLine, dotted
from fcdd_sweep.config.fields import Section
from fcdd_sweep.config.layers import ConfigLayer, nest, overlay, split_key, value_at_key
from fcdd_sweep.config.names import cut_to_bytes, slug
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import VARIANT_PATTERN, Experiment, Settings
from fcdd_sweep.config.schema_errors import Fault, renamed_key, validated
from fcdd_sweep.config.text import annotation_of, key_names, sections_in, value_text
from fcdd_sweep.config.trial_spec import NOT_IDENTITY, canonical, config_id


def _keys(section: type[Section], above: str = "") -> Iterator[str]:
    for name, info in key_names(section).items():
        yield above + name
        for inner in sections_in(annotation_of(info)):
            yield from _keys(inner, f"{above}{name}.")


KNOWN_KEYS = frozenset(_keys(Experiment))
"""Every dotted key of an experiment file, sections included."""
_FIXED = (
    "dataset",
    "evaluation.reserved_anomalies",
    "evaluation.validation.anomalies",
    *NOT_IDENTITY,
)
_VARYING = tuple(
    sorted(key for key in _keys(Settings) if not any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED))
)
_FIXED_STEPS = {
    "dataset": "Write one experiment file per data set; `dataset.classes` lists the normal classes",
    "seeds": "Every config is trained with all of `seeds`",
    "evaluation": "Set it once, outside of the grid: all configs are evaluated on the same images",
}


def may_vary(key: str) -> bool:
    """Return whether configs may differ in this dotted key."""
    return key in _VARYING


def grid_of(layer: ConfigLayer) -> dict[str, list[Any]]:
    """Return the grid's keys that have a list of values; others are reported with the schema."""
    grid = layer.tree.get("grid")
    return {key: values for key, values in grid.items() if isinstance(values, list)} if isinstance(grid, dict) else {}


def variants_of(layer: ConfigLayer) -> list[str]:
    """Return the names of the variants."""
    variants = layer.tree.get("variants")
    return list(variants) if isinstance(variants, dict) else []


def variant_of(layer: ConfigLayer, name: str) -> dict[str, Any]:
    """Return a variant's dotted keys and values; empty if it is not a mapping, which is reported with the schema."""
    value = value_at_key(layer.tree, ("variants", name))
    return value if isinstance(value, dict) else {}


def varying_problems(layer: ConfigLayer) -> list[Problem]:
    """Return problems of keys, names and lists of grid and variants; `value_problems` checks the values."""
    grid: list[Key] = [("grid", key) for key in grid_of(layer)]
    variants: list[list[Key]] = [
        [("variants", name, key) for key in variant_of(layer, name)] for name in variants_of(layer)
    ]
    problems = [
        *key_problems(layer, [*grid, *itertools.chain(*variants)]),
        *overlaps(layer, [[*keys, *grid] for keys in variants or [[]]]),
        *_list_problems(layer),
        *_name_problems(layer),
    ]
    return list(dict.fromkeys(problems))


def key_problems(layer: ConfigLayer, written: list[Key]) -> Iterator[Problem]:
    """Yield problems of keys that do not exist or may not vary; the last part of each `written` is a dotted key."""
    for path in written:
        key, where = str(path[-1]), layer.origin.where(path)
        head = key.split(".")[0]
        if may_vary(key):
            continue
        if key in KNOWN_KEYS or head == "dataset":
            allowed = "keys of " + ", ".join(dict.fromkeys(name.split(".")[0] for name in _VARYING))
            yield Problem(where, f"{key} is the same for all configs", allowed, _FIXED_STEPS.get(head, ""))
        else:
            allowed = "dotted keys such as training.epochs"
            unknown = Problem(where, f"there is no key {key}", allowed, closest(key, _VARYING))
            yield renamed_key(where, key) or unknown


def overlaps(layer: ConfigLayer, groups: list[list[Key]]) -> Iterator[Problem]:
    """Yield problems of keys that are set twice; a group holds all keys that one config sets."""
    for group in groups:
        for first, second in itertools.combinations(group, 2):
            key, other = f"{first[-1]}.", f"{second[-1]}."
            if key.startswith(other) or other.startswith(key):
                what = f"it sets again what {dotted(first)} sets"
                yield Problem(layer.origin.where(second), what, next_step="Keep one of them")


def _list_problems(layer: ConfigLayer) -> Iterator[Problem]:
    for key, values in grid_of(layer).items():
        if not values:
            step = "Give it at least one, or remove the key"
            yield Problem(layer.origin.where(("grid", key)), "the list of values is empty", next_step=step)
        seen: set[str] = set()
        for index, value in enumerate(values):
            if canonical(value) in seen:
                where = layer.origin.where(("grid", key, index))
                yield Problem(where, f"the value {value_text(value)} is given twice", next_step="Keep one of them")
            seen.add(canonical(value))


def _name_problems(layer: ConfigLayer) -> Iterator[Problem]:
    allowed = "letters, digits, '_' and '-', beginning with a letter or digit, but not with normal_"
    first: dict[str, str] = {}
    for name in variants_of(layer):
        where = layer.origin.where(("variants", name))
        if name.casefold() == "baselines":
            what = "the folder `baselines` of a run is reserved for the command `baselines`"
            yield Problem(where, what, "any other name")
        if not re.fullmatch(VARIANT_PATTERN, name) or name.casefold().startswith("normal_"):
            yield Problem(where, f"'{name}' cannot name a variant's folder", allowed, f"Closest: '{_as_variant(name)}'")
        other = first.setdefault(name.casefold(), name)
        if other != name:
            what = f"'{other}' and '{name}' are the same folder where upper and lower case do not differ"
            yield Problem(where, what, next_step="Rename one of them")


def _as_variant(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")
    return re.sub(r"^normal_", "", plain, flags=re.IGNORECASE) or "variant"


MAX_CONFIGS = 10_000
"""Most configs of an experiment; a larger product is taken for a mistake."""
_MAX_NAME = 120
"""Bytes of a config's folder name; file systems take 255."""


@dataclass(frozen=True)
class Config:
    """Settings that all classes and seeds share.

    Attributes:
        name: its folder, readable and unique; empty when the experiment has one config.
        settings: of its trials.
        parameters: its value of every key that any config of the experiment sets, and the variant's name; without keys
            that it does not have, as `momentum` with Adam, or the milestones of another schedule.
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
    """One value of a key of the grid, or one variant: dotted keys, their values and where they are written."""

    label: str
    values: Mapping[str, Any]
    written: Mapping[str, Key]
    variant: str = ""


def configs_of(experiment: Experiment) -> tuple[Config, ...]:
    """Return the product of variants and grid, in the order of the file; variants vary slowest.

    Raises:
        ExperimentError: a key that may not vary, a value that is not allowed, two configs that are the same.
    """
    layer = ConfigLayer(experiment.model_dump(mode="json", by_alias=True), dict(experiment.origin.places))
    configs, problems = expand(layer)
    if problems:
        raise ExperimentError(problems)
    return tuple(configs)


def expand(layer: ConfigLayer) -> tuple[list[Config], list[Problem]]:
    """Return the configs of an experiment's plain values, and everything that is wrong with its grid and variants.

    There are no configs if anything is wrong; what is wrong with the experiment itself is reported with the schema.
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


def _axes(layer: ConfigLayer) -> list[list[Choice]]:
    variants = [_variant_choice(layer, name) for name in variants_of(layer)]
    grid = grid_of(layer)
    short = short_names(list(grid))
    axes = [[_grid_choice(short[key], key, *item) for item in enumerate(values)] for key, values in grid.items()]
    return [axis for axis in (variants, *axes) if axis]


def _variant_choice(layer: ConfigLayer, name: str) -> Choice:
    values = variant_of(layer, name)
    return Choice(name, values, {key: ("variants", name, key) for key in values}, variant=name)


def _grid_choice(short: str, key: str, index: int, value: Any) -> Choice:
    return Choice(f"{short}-{value_slug(value)}", {key: value}, {key: ("grid", key, index)})


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return by dotted key the fewest last parts that are unique; `name` alone is never enough."""
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
    """Return a value as part of a folder's name: its text, or the texts in it."""
    if isinstance(value, dict):
        return "-".join(value_slug(item) for item in value.values())
    if isinstance(value, list):
        return "-".join(map(value_slug, value))
    text = value.rstrip("/").rsplit("/", 1)[-1] if isinstance(value, str) else value_text(value)
    # keep a minus sign: -1 and 1 are two values
    return f"-{slug(text)}" if text.startswith("-") else slug(text)


def settings_of(layer: ConfigLayer) -> tuple[Settings | None, list[Fault]]:
    """Return the settings of an experiment's plain values, or None and everything that is wrong with them."""
    tree = {name: value for name, value in layer.tree.items() if name in Settings.model_fields}
    return validated(Settings, tree, layer.origin)


def with_choices(layer: ConfigLayer, choices: Sequence[Choice]) -> ConfigLayer:
    """Return the experiment with the values of the choices, set all at once so that their order does not matter."""
    upper = ConfigLayer({})
    for choice in choices:
        for key, value in choice.values.items():
            line = SourceLine(layer.origin.where(choice.written[key]), names_key=True)
            upper = overlay(ConfigLayer(nest(split_key(key), value), {split_key(key): line}), upper)
    return overlay(upper, layer)


def value_problems(layer: ConfigLayer, choice: Choice, base_faults: list[Fault]) -> Iterator[Problem]:
    """Yield problems of a choice's values, whatever the others are; contradictions are found in the product."""
    _, found = settings_of(with_choices(layer, [choice]))
    for key in map(split_key, filter(may_vary, choice.values)):
        for fault in found:
            if fault.key[: len(key)] == key and fault not in base_faults:
                yield fault.problem


def _product(layer: ConfigLayer, axes: list[list[Choice]]) -> tuple[list[Config], list[Problem]]:
    configs: list[Config] = []
    problems: dict[tuple[str, str], Problem] = {}
    for choices in itertools.product(*axes):
        name = "_".join(choice.label for choice in choices)
        chosen = with_choices(layer, choices)
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
    """Return configs whose parameters hold every key that any config sets, and that they have: rows of one table."""
    filled = []
    for config in configs:
        plain = config.settings.model_dump(mode="json")
        values = {
            key: value_at_key(plain, split_key(key)) for key in dict.fromkeys(keys) if _has(plain, split_key(key))
        }
        filled.append(replace(config, parameters={**config.parameters, **values}))
    return filled


_SGD_ALONE: tuple[Key, Key] = (("training", "momentum"), ("training", "optimizer"))
"""A key that one optimizer uses, and that of the optimizer."""


def _has(plain: Any, key: Key) -> bool:
    """Return whether a key means something in settings: it exists, and what uses it is chosen."""
    parent = value_at_key(plain, key[:-1])
    used, optimizer = _SGD_ALONE
    return isinstance(parent, dict) and key[-1] in parent and (key != used or value_at_key(plain, optimizer) == "sgd")


def _same_twice(layer: ConfigLayer, configs: list[Config]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for config in configs:
        other = first.setdefault(config.config_id, config.name)
        if other != config.name:
            where = layer.origin.where("variants" if "variant" in config.parameters else "grid")
            what = f"the configs {other} and {config.name} are the same and would be trained twice"
            yield Problem(where, what, next_step="Remove one of them")


def _with_unique_names(configs: list[Config]) -> list[Config]:
    """Append a part of the config's id to names that are too long or that two configs share."""
    count = Counter(config.name.casefold() for config in configs)
    return [
        config
        if count[config.name.casefold()] == 1 and len(config.name.encode()) <= _MAX_NAME
        else replace(config, name=f"{cut_to_bytes(config.name, _MAX_NAME)}_{config.config_id[:6]}")
        for config in configs
    ]
