"""The space of a search: its checks, and the configs of suggested values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fcdd_sweep.config.errors import ExperimentError, Key, Problem
from fcdd_sweep.config.grid import (
    Choice,
    Config,
    grid_of,
    key_problems,
    overlaps,
    settings_of,
    short_names,
    value_problems,
    value_slug,
    variants_of,
    with_choices,
)
from fcdd_sweep.config.layers import ConfigLayer, split_key, value_at_key
from fcdd_sweep.config.names import cut_to_bytes
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.schema_errors import Fault, renamed_key, valid_section, validated
from fcdd_sweep.config.search_schema import (
    MOST_VALUES,
    ORACLE,
    ORACLE_METRICS,
    PRUNABLE,
    SEARCH_METRICS,
    SearchAxis,
    SearchSettings,
)
from fcdd_sweep.config.text import choice_list, value_text
from fcdd_sweep.config.trial_spec import canonical

_MAX_NAME = 100
"""Bytes of a config's folder name."""
_DIGITS = ".4g"
"""Format of a number in a folder's name; its column has all digits."""
Values = dict[str, Any]
"""Values of a config by dotted key."""


def search_problems(layer: ConfigLayer) -> list[Problem]:
    """Return everything that is wrong with the search of an experiment's plain values, schema problems apart."""
    written = layer.tree.get("search")
    if not isinstance(written, dict):
        return []
    axes = _valid_axes(written)
    problems = [
        *_space_problems(layer, axes),
        *_evaluation_problems(layer, written),
        *_crossing_problems(layer),
    ]
    if (search := valid_section(SearchSettings, written)) is not None:
        problems += [
            *_algorithm_problems(layer, search),
            *_seed_problems(layer, search),
            *_prune_problems(layer, search),
        ]
    return list(dict.fromkeys(problems))


def space_of(experiment: Experiment) -> Space:
    """Return the space of an experiment that has a search.

    Raises:
        ExperimentError: everything that is wrong with the search.
    """
    if experiment.search is None:
        raise ExperimentError(Problem(experiment.origin.where("search"), "the experiment has no search"))
    layer = ConfigLayer(experiment.model_dump(mode="json", by_alias=True), dict(experiment.origin.places))
    if problems := search_problems(layer):
        raise ExperimentError(problems)
    return Space(layer, _in_order(experiment.search.space))


@dataclass(frozen=True)
class Space:
    """The keys of a search over an experiment.

    Attributes:
        layer: the experiment's plain values, over which suggested ones are laid.
        axes: by key, a key after those that it depends on.
    """

    layer: ConfigLayer
    axes: Mapping[str, SearchAxis]

    def active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Return whether a key is searched together with these values of other keys."""
        return all(other in values and _meets(values[other], wanted) for other, wanted in self.axes[key].when.items())

    def default(self) -> Values:
        """Return the file's own values of the keys that are active with them."""
        values: Values = {}
        for key in self.axes:
            if self.active(key, values):
                values[key] = value_at_key(self._own_values, split_key(key))
        return values

    @cached_property
    def _own_values(self) -> Mapping[str, Any]:
        """The experiment's settings as plain values, defaults of the schema included."""
        settings, _ = settings_of(self.layer)
        assert settings is not None
        return settings.model_dump(mode="json")

    def grid(self) -> list[Values]:
        """Return every combination of the axes' values once, without values of keys that are not active."""
        axes = {key: axis.values() or [] for key, axis in self.axes.items()}
        found: dict[str, Values] = {}
        for combination in itertools.product(*axes.values()):
            values: Values = {}
            for key, value in zip(axes, combination, strict=True):
                if self.active(key, values):
                    values[key] = value
            found.setdefault(canonical(values), values)
        return list(found.values())

    def config(self, number: int, values: Mapping[str, Any]) -> Config:
        """Return the config of suggested values; number 0 is the file's own, whatever the values.

        Raises:
            ExperimentError: values that the schema forbids beside each other.
        """
        given = values if number else {}
        choice = Choice("", given, {key: ("search", "space", key) for key in given})
        settings, faults = settings_of(with_choices(self.layer, [choice]))
        if settings is None:
            raise ExperimentError([fault.problem for fault in faults])
        return Config(self._name(number, given), settings, dict(values), self.layer.origin)

    def _name(self, number: int, values: Mapping[str, Any]) -> str:
        if number == 0:
            return "default"
        parts = [f"{self._short[key]}-{_slug_of(value)}" for key, value in values.items()]
        return cut_to_bytes("_".join([f"{number:03}", *parts]), _MAX_NAME).rstrip("-_.")

    @cached_property
    def _short(self) -> dict[str, str]:
        return short_names(list(self.axes))

    def extremes(self) -> list[Config]:
        """Return the file's own config, and it with one key at a time at the ends of its range or at each choice."""
        choices = [choice for key in self.axes for choice in _extremes(self.axes, key)]
        settings = [settings_of(with_choices(self.layer, [choice]))[0] for choice in choices]
        found = [Config("", each, {}, self.layer.origin) for each in settings if each is not None]
        return [self.config(0, self.default()), *found]


def _slug_of(value: Any) -> str:
    return value_slug(float(format(value, _DIGITS)) if isinstance(value, float) else value)


def _meets(value: Any, wanted: Any) -> bool:
    options = wanted if isinstance(wanted, list) else [wanted]
    return canonical(value) in map(canonical, options)


def _valid_axes(written: Mapping[str, Any]) -> dict[str, SearchAxis]:
    """Return the axes that are valid."""
    space = written.get("space")
    named = space.items() if isinstance(space, dict) else ()
    read = {
        key: validated(SearchAxis, axis, ConfigLayer({}).origin)[0] for key, axis in named if isinstance(axis, dict)
    }
    return {key: axis for key, axis in read.items() if axis is not None}


def _in_order(axes: Mapping[str, SearchAxis]) -> dict[str, SearchAxis]:
    """Return the axes, each after those that its `when` names, without those of a circle."""
    ordered: dict[str, SearchAxis] = {}
    while fit := [key for key, axis in axes.items() if key not in ordered and axis.when.keys() <= ordered.keys()]:
        ordered.update({key: axes[key] for key in fit})
    return ordered


def _space_problems(layer: ConfigLayer, axes: Mapping[str, SearchAxis]) -> Iterator[Problem]:
    places: list[Key] = [("search", "space", key) for key in axes]
    yield from key_problems(layer, places)
    yield from overlaps(layer, [places])
    for key in axes:
        if key.split(".")[0] == "evaluation":
            step = "Set it once, outside of the space"
            yield Problem(
                layer.origin.where(("search", "space", key)), f"{key} decides how configs are evaluated", next_step=step
            )
    conditions = list(_condition_problems(layer, axes))
    yield from conditions
    _, base_faults = settings_of(layer)
    for key in (key for key, axis in axes.items() if not (conditions and axis.when)):
        found = _value_problems(layer, axes, key, base_faults)
        whole = _whole_numbers(axes[key]) if found else None
        if whole is None or _value_problems(layer, {**axes, key: SearchAxis.model_validate(whole)}, key, base_faults):
            yield from found
        else:
            where = layer.origin.where(("search", "space", key, _kind(axes[key])))
            what = f"{key} takes whole numbers alone, and this range has others between its ends"
            yield Problem(where, what, "a range of whole numbers", f"Write {value_text(whole)}")


def _value_problems(
    layer: ConfigLayer, axes: Mapping[str, SearchAxis], key: str, base_faults: list[Fault]
) -> list[Problem]:
    """Return what the schema forbids of a key at its extreme values."""
    return [problem for choice in _extremes(axes, key) for problem in value_problems(layer, choice, base_faults)]


def _whole_numbers(axis: SearchAxis) -> dict[str, Any] | None:
    """Return a range of numbers as one of whole numbers, as it is written; None unless its ends and step are whole."""
    ends, step = axis.ends or [], axis.step
    if axis.choices is not None or axis.int_ is not None or any(number % 1 for number in (*ends, step or 0)):
        return None
    whole: dict[str, Any] = {"int": [int(end) for end in ends]}
    further = {"log": axis.is_log, "step": int(step or 0), "when": axis.when}
    return whole | {name: value for name, value in further.items() if value}


def _condition_problems(layer: ConfigLayer, axes: Mapping[str, SearchAxis]) -> Iterator[Problem]:
    """Yield problems of `when`: keys and values that the space does not have, and circles."""
    for key, axis in axes.items():
        for other, wanted in axis.when.items():
            yield from _one_condition(layer, axes, key, other, wanted)
    known = {key: axis for key, axis in axes.items() if axis.when.keys() <= axes.keys() - {key}}
    for key in known.keys() - _in_order(known).keys():
        what = f"{key} depends on a key that depends on it"
        yield Problem(layer.origin.where(("search", "space", key, "when")), what)


def _one_condition(
    layer: ConfigLayer, axes: Mapping[str, SearchAxis], key: str, other: str, wanted: Any
) -> Iterator[Problem]:
    where = layer.origin.where(("search", "space", key, "when", other))
    if other == key:
        yield Problem(where, f"{key} depends on itself")
    elif renamed := renamed_key(where, other):
        yield renamed
    elif other not in axes:
        names = [name for name in axes if name != key]
        what = f"{other} is not a key of the space"
        yield Problem(where, what, choice_list(names or ["none"]), closest(other, names))
    else:
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not axes[other].contains(value):
                yield Problem(where, f"{value_text(value)} is not a value of {other} in the space")


def _extremes(axes: Mapping[str, SearchAxis], key: str) -> list[Choice]:
    """Return a key at each of its extreme values, with the first values of other keys that make it active."""
    axis, kind = axes[key], _kind(axes[key])
    above: Values = {}
    written: dict[str, Key] = {}
    for other, wanted in axis.when.items():
        (parent, *_) = _extremes_like(axes, other, wanted)
        above, written = {**above, **parent.values}, {**written, **parent.written}
    return [
        Choice("", {**above, key: value}, {**written, key: ("search", "space", key, kind, index)})
        for index, value in enumerate(axis.extremes)
    ]


def _extremes_like(axes: Mapping[str, SearchAxis], key: str, wanted: Any) -> list[Choice]:
    """Return a key at the first of the wanted values, with the values that make it active."""
    value = wanted[0] if isinstance(wanted, list) else wanted
    first, *_ = _extremes(axes, key)
    return [Choice("", {**first.values, key: value}, first.written)]


def _kind(axis: SearchAxis) -> str:
    if axis.choices is not None:
        return "choices"
    return "int" if axis.int_ is not None else "float" if axis.float_ is not None else "log"


def _evaluation_problems(layer: ConfigLayer, written: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield problems of metric, direction, and failed trials that count as the worst value."""
    metric, direction = written.get("metric", SearchSettings.model_fields["metric"].default), written.get("direction")
    names = [name for name in (metric if isinstance(metric, list) else [metric]) if isinstance(name, str)]
    yield from _metric_problems(layer, names, empty=isinstance(metric, list) and not metric)
    if isinstance(direction, list) and len(direction) != len(names):
        what = f"there are {len(names)} metrics and {len(direction)} directions"
        step = "Give one per metric, or leave it out"
        yield Problem(layer.origin.where(("search", "direction")), what, next_step=step)
    lower = [name for name in names if SEARCH_METRICS.get(name) == "minimize" or direction == "minimize"]
    if written.get("failed_trials") == "worst" and lower:
        what = f"'worst' counts a failed trial as 0, which would be the best {lower[0]}"
        yield Problem(layer.origin.where(("search", "failed_trials")), what, "drop_config or mean_of_rest")


def _metric_problems(layer: ConfigLayer, names: list[str], *, empty: bool) -> Iterator[Problem]:
    where = layer.origin.where(("search", "metric"))
    for name in names:
        if name not in SEARCH_METRICS and name not in ORACLE_METRICS:
            yield _no_metric(where, name)
    if len(set(names)) < len(names) or empty:
        yield Problem(where, "the list of metrics is empty or holds one twice")


def _no_metric(where: str, name: str) -> Problem:
    names = [*SEARCH_METRICS, *ORACLE_METRICS]
    if f"{ORACLE}{name}" in ORACLE_METRICS:
        step = f"Write {ORACLE}{name} to select on the test set; the results are marked as oracle"
        return Problem(
            where, f"{name} is measured on the test set, which is for reporting", choice_list([*SEARCH_METRICS]), step
        )
    return Problem(where, f"there is no metric '{name}'", choice_list(names), closest(name, names))


def _crossing_problems(layer: ConfigLayer) -> Iterator[Problem]:
    for name, given in (("grid", grid_of(layer)), ("variants", variants_of(layer))):
        if given:
            step = f"Remove {name}, or write its values as {{choices: [...]}} into search.space"
            yield Problem(layer.origin.where(name), f"{name} and search exclude each other", next_step=step)


def _algorithm_problems(layer: ConfigLayer, search: SearchSettings) -> Iterator[Problem]:
    where = layer.origin.where(("search", "algorithm"))
    if isinstance(search.metric, list) and len(search.metric) > 1 and search.algorithm != "nsga2":
        yield Problem(where, f"'{search.algorithm}' searches for one metric, found {len(search.metric)}", "nsga2")
    if search.algorithm == "cmaes" and all(axis.choices is not None for axis in search.space.values()):
        yield Problem(where, "'cmaes' searches ranges of numbers, and the space has none", "tpe, random, grid, nsga2")
    if search.algorithm == "grid":
        yield from _grid_problems(layer, search)


def _grid_problems(layer: ConfigLayer, search: SearchSettings) -> Iterator[Problem]:
    """Yield problems of a grid over the space: ranges without steps, and too many configs."""
    sizes = []
    for key, axis in search.space.items():
        sizes.append(axis.size or 1)
        if axis.size is None:
            place = layer.origin.where(("search", "space", key))
            yield Problem(place, "a range without steps has no grid", "choices, int, or float with a step")
    if (count := math.prod(sizes)) > MOST_VALUES:
        yield Problem(
            layer.origin.where(("search", "algorithm")), f"the grid has {count:,} configs", f"at most {MOST_VALUES:,}"
        )


def _seed_problems(layer: ConfigLayer, search: SearchSettings) -> Iterator[Problem]:
    experiment_seeds = layer.tree.get("seeds", Experiment.model_fields["seeds"].default)
    if not isinstance(experiment_seeds, int | list):
        return
    evaluating = seed_list(experiment_seeds if search.seeds == "all" else search.seeds)
    for name, given in (("seeds", search.seeds), ("confirm_seeds", search.confirm_seeds)):
        if isinstance(given, list) and (not given or len(set(given)) < len(given)):
            yield Problem(layer.origin.where(("search", name)), "the list of seeds is empty or holds one twice")
    fresh = search.confirm_seeds
    if isinstance(fresh, list) and (seen := sorted(set(fresh) & set(evaluating))):
        what = f"{', '.join(map(str, seen))} evaluated configs: the best was selected by its luck with them, too"
        yield Problem(layer.origin.where(("search", "confirm_seeds")), what, f"others than {value_text(evaluating)}")


def _prune_problems(layer: ConfigLayer, search: SearchSettings) -> Iterator[Problem]:
    if search.prune is None:
        return
    where = layer.origin.where(("search", "prune"))
    if search.metrics != [PRUNABLE]:
        yield Problem(where, f"configs are compared during training by {PRUNABLE} only", f"metric: {PRUNABLE}")
    epochs = value_at_key(layer.tree, ("training", "epochs"))
    if isinstance(epochs, int) and search.prune.at[-1] >= epochs and "training.epochs" not in search.space:
        what = f"epoch {search.prune.at[-1]} is not before the last, {epochs}: pruning would save nothing"
        yield Problem(layer.origin.where(("search", "prune", "at")), what, f"epochs below {epochs}")


def seed_list(seeds: Any) -> list[int]:
    """Return a list of seeds; 3 means seeds 0 to 2."""
    return list(range(seeds)) if isinstance(seeds, int) else list(seeds)
