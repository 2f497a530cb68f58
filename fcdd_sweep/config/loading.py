"""Reading experiment files: preset, file and overrides become one checked `Experiment`, and writing it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
S = TypeVar("S", bound=Section)


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


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment in a YAML file: values of the preset, overridden by the file, overridden by `overrides`.

    Names of data sets, classes, networks and sources are checked by `planning.plan`.

    Args:
        path: the file.
        overrides: such as `training.epochs=3`, the value as YAML.
    Raises:
        ExperimentError: everything that is wrong, each problem with file and line or with the override.
    """
    parsed = parse_experiment(path, overrides)
    if parsed.experiment is None:
        raise ExperimentError(parsed.problems)
    return parsed.experiment


def parse_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ParsedExperiment:
    """Read an experiment file as far as possible, with all of its problems.

    Raises:
        ExperimentError: the file cannot be read, or is not a YAML mapping.
    """
    above, problems = _overrides_layer(overrides)
    try:
        written = overlay(above, _file_layer(Path(path)))
    except ExperimentError as error:
        raise ExperimentError([*error.problems, *problems]) from None
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


def _over_preset(written: ConfigLayer) -> tuple[ConfigLayer, list[Problem]]:
    name = written.tree.get("preset")
    if not isinstance(name, str):
        return written, []
    if name not in PRESETS:
        names = list(PRESETS)
        where = written.origin.where("preset")
        return written, [Problem(where, f"there is no preset '{name}'", choice_list(names), closest(name, names))]
    place = SourceLine(f"{written.places[('preset',)].text}: preset '{name}'")
    tree = PRESETS[name].tree
    return overlay(written, ConfigLayer(tree, dict.fromkeys(_leaves(tree), place))), []


def _leaves(tree: Any, above: Key = ()) -> list[Key]:
    """Return the keys of all values that are not mappings: a key that a section lacks is missing from the file."""
    if not isinstance(tree, dict):
        return [above]
    return [key for name, value in tree.items() for key in _leaves(value, (*above, name))]


def _overrides_layer(overrides: Sequence[str]) -> tuple[ConfigLayer, list[Problem]]:
    """Return all overrides as one layer, in which later ones win, and their problems."""
    layer = ConfigLayer({})
    problems: list[Problem] = []
    for text in overrides:
        try:
            key, value = _override(text)
        except ExperimentError as error:
            problems += error.problems
        else:
            layer = overlay(ConfigLayer(nest(key, value), {key: SourceLine(_shown(text), names_key=True)}), layer)
    return layer, problems


def _shown(override: str) -> str:
    """Return an override as it was typed, shortened."""
    return f"--set {override}" if len(override) <= _LONGEST_SHOWN else f"--set {override[:_LONGEST_SHOWN]}..."


def _override(text: str) -> tuple[Key, Any]:
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
    if key not in KNOWN_KEYS and not key.startswith(tuple(f"{name}." for name in _OPEN_SECTIONS)):
        step = closest(key, KNOWN_KEYS) or "`--show-config` prints all keys"
        raise ExperimentError(renamed_key(where, key) or Problem(where, f"there is no key {key}", next_step=step))
    if key in _PATHS:
        return split_key(key), None if value == "null" else value
    return split_key(key), parse_value(value, where)
