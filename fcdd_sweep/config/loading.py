"""Reading experiment files: preset, file and overrides become one checked `Experiment`, and writing it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np

from fcdd_sweep.config.errors import ExperimentError, Key, Origin, Problem, SourceLine
from fcdd_sweep.config.fields import Section
from fcdd_sweep.config.grid import KNOWN_KEYS, expand
from fcdd_sweep.config.layers import ConfigLayer, Tree, nest, overlay, split_key
from fcdd_sweep.config.names import is_text
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.schema_errors import preset_fills, renamed_key, valid_section, validated
from fcdd_sweep.config.search_space import search_problems
from fcdd_sweep.config.text import choice_list
from fcdd_sweep.config.yaml_text import parse_value, read_document, to_yaml

_OPEN_SECTIONS = ("grid", "variants", "search.space", "dataset.options")
"""Mappings whose keys the schema does not list."""
_PATHS = ("dataset.root", "anomalies.source.root", "anomalies.source.folder", "network.weights", "output")
"""Keys whose values on the command line are not read as YAML: `2024`, `a: b` and `x #1` are folders, too."""
_LONGEST_SHOWN = 120
"""Characters of an override in messages."""
_IN_PYTHON = "the experiment"
"""Where the keys of an experiment that is a mapping were written, in messages."""
S = TypeVar("S", bound=Section)
Written = Mapping[str, Any]
"""An experiment, or a part of it, as nested mappings of plain values."""


@dataclass(frozen=True)
class ParsedExperiment:
    """An experiment file with its preset and overrides, valid or not.

    Attributes:
        tree: plain values.
        origin: where each value was written.
        problems: everything that is wrong with keys, types, ranges, grid and variants.
        experiment: None when there are problems.
    """

    tree: Tree
    origin: Origin
    problems: tuple[Problem, ...]
    experiment: Experiment | None

    def section(self, name: str, kind: type[S]) -> S | None:
        """Return a section if it is valid, unknown keys apart, so that it can be checked further; else None."""
        return valid_section(kind, self.tree.get(name, {}))


def load_experiment(source: str | Path | Written, overrides: Sequence[str] | Written = ()) -> Experiment:
    """Return an experiment: values of the preset, overridden by `source`, overridden by `overrides`.

    Names of data sets, classes, networks and sources are checked by `planning.plan`.

    Args:
        source: a YAML file, or what it would hold as a mapping: `{"schema": 2, "name": "x", "preset": "digits"}`.
        overrides: texts such as `training.epochs=3`, the value as YAML, or a mapping of dotted keys:
            `{"training.epochs": 3}`; both take the place of what `source` says under that key.
    Raises:
        ExperimentError: everything that is wrong, each problem with file and line or with the override.
    """
    parsed = parse_experiment(source, overrides)
    if parsed.experiment is None:
        raise ExperimentError(parsed.problems)
    return parsed.experiment


def parse_experiment(source: str | Path | Written, overrides: Sequence[str] | Written = ()) -> ParsedExperiment:
    """Read an experiment as far as possible, with all of its problems; see `load_experiment`.

    Raises:
        ExperimentError: the file cannot be read, or is not a YAML mapping.
    """
    layers, problems = _override_layers(_given(overrides))
    try:
        written = _mapping_layer(source) if isinstance(source, Mapping) else _file_layer(Path(source))
    except ExperimentError as error:
        raise ExperimentError([*error.problems, *problems]) from None
    for above in layers:
        written = overlay(above, written)
    layer, unknown_preset = _over_preset(written)
    experiment, faults = validated(Experiment, layer.tree, layer.origin)
    if unknown_preset:
        # keys that a preset would set are not missing: the preset's name is wrong
        faults = [fault for fault in faults if not (fault.missing and preset_fills(fault.key))]
    _, varying = expand(layer)
    problems += [*unknown_preset, *(fault.problem for fault in faults), *varying, *search_problems(layer)]
    valid = experiment.with_origin(layer.origin) if experiment is not None and not problems else None
    return ParsedExperiment(layer.tree, layer.origin, tuple(problems), valid)


def dump_experiment(experiment: Experiment) -> str:
    """Return the resolved experiment as YAML; loading it returns an equal `Experiment`."""
    plain = experiment.model_dump(mode="json", by_alias=True)
    first = {key: plain[key] for key in ("schema", "name", "preset")}
    return to_yaml({**first, **plain})


def _file_layer(path: Path) -> ConfigLayer:
    document = read_document(path)
    places: dict[Key, SourceLine] = {key: SourceLine(f"{path}:{line}") for key, line in document.lines.items()}
    return ConfigLayer(document.tree, {(): SourceLine(str(path)), **places})


def _mapping_layer(source: Written) -> ConfigLayer:
    """Return an experiment that a program has made."""
    _check_text(_keys(source), _IN_PYTHON)
    return ConfigLayer(_plain(source), {(): SourceLine(_IN_PYTHON)})


def _keys(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield key
            yield from _keys(below)


def _check_text(keys: Iterable[Any], where: str) -> None:
    if wrong := [repr(key) for key in keys if not isinstance(key, str)]:
        raise ExperimentError(Problem(where, f"these keys are not text: {', '.join(wrong)}", "text in quotes"))


def _plain(value: Any) -> Any:
    """Return a value as a YAML file would give it: paths as text, tuples as lists, numbers of numpy as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def _over_preset(written: ConfigLayer) -> tuple[ConfigLayer, list[Problem]]:
    name = written.tree.get("preset")
    if not isinstance(name, str):
        return written, []
    if name not in PRESETS:
        names = list(PRESETS)
        where = written.origin.where("preset")
        return written, [Problem(where, f"there is no preset '{name}'", choice_list(names), closest(name, names))]
    place = SourceLine(f"{written.places.get(('preset',), written.places[()]).text}: preset '{name}'")
    tree = PRESETS[name].tree
    return overlay(written, ConfigLayer(tree, dict.fromkeys(_leaves(tree), place))), []


def _leaves(tree: Any, above: Key = ()) -> list[Key]:
    """Return the keys of all values that are not mappings: a key that a section lacks is missing from the file."""
    if not isinstance(tree, dict):
        return [above]
    return [key for name, value in tree.items() for key in _leaves(value, (*above, name))]


@dataclass(frozen=True)
class _Given:
    """An override: its text for messages, and how its key and value are read, which may raise an `ExperimentError`."""

    text: str
    read: Callable[[], tuple[Key, Any]]


def _given(overrides: Sequence[str] | Written) -> list[_Given]:
    """Return overrides of the command line, or of a program, each with how it is read."""
    if isinstance(overrides, str):
        raise TypeError(f"overrides are a list of texts or a mapping, not one text: [{overrides!r}]")
    if not isinstance(overrides, Mapping):
        return [_Given(_shown(text), partial(read_override, text)) for text in overrides]
    return [
        _Given(_cut(f"override {key}={value!r}"), partial(_own_override, key, value))
        for key, value in overrides.items()
    ]


def _override_layers(overrides: Sequence[_Given]) -> tuple[list[ConfigLayer], list[Problem]]:
    """Return overrides as layers, the lowest first, and their problems.

    In a layer later ones win. One that empties a mapping is a layer of its own: what follows it starts anew.
    """
    layers = [ConfigLayer({})]
    problems: list[Problem] = []
    for given in overrides:
        try:
            key, value = given.read()
        except ExperimentError as error:
            problems += error.problems
        else:
            own = ConfigLayer(nest(key, value), {key: SourceLine(given.text, names_key=True)})
            if value == {}:
                layers += [own, ConfigLayer({})]
            else:
                layers[-1] = overlay(own, layers[-1])
    return layers, problems


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _shown(override: str) -> str:
    """Return an override as it was typed, shortened."""
    return f"--set {_cut(override)}"


def read_override(text: str) -> tuple[Key, Any]:
    """Return key and value of an override of the command line, `KEY=VALUE`.

    Raises:
        ExperimentError: another text, or a key that no experiment has.
    """
    where = _shown(text)
    if not is_text(text):
        step = "Rename the file or folder, or name it through a link"
        raise ExperimentError(Problem(where, "this is not UTF-8 text", next_step=step))
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ExperimentError(
            Problem(where, "this is not KEY=VALUE", next_step="Write it as `--set training.epochs=3`")
        )
    _check_known(key, where)
    if key in _PATHS:
        return split_key(key), None if value == "null" else value
    return split_key(key), parse_value(value, where)


def _own_override(key: str, value: Any) -> tuple[Key, Any]:
    """Return the key and the plain value of an override that a program has made."""
    where = f"override {key}"
    _check_text([key, *_keys(value)], where)
    _check_known(key, where)
    return split_key(key), _plain(value)


def _check_known(key: str, where: str) -> None:
    """Raise an `ExperimentError` for a dotted key that no experiment has."""
    if key not in KNOWN_KEYS and not key.startswith(tuple(f"{name}." for name in _OPEN_SECTIONS)):
        step = closest(key, KNOWN_KEYS) or "`--show-config` prints all keys"
        raise ExperimentError(renamed_key(where, key) or Problem(where, f"there is no key {key}", next_step=step))
