"""What a grid and variants may say: which keys may vary, and how they are written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from fcdd_sweep.config.errors import Problem, closest
from fcdd_sweep.config.layers import Layer, value_at
from fcdd_sweep.config.origin import Key, dotted
from fcdd_sweep.config.schema import VARIANT_PATTERN, Experiment, Section, Settings
from fcdd_sweep.config.trial import NOT_IDENTITY, canonical
from fcdd_sweep.config.words import annotation_of, key_names, sections_in, show


def _keys(section: type[Section], above: str = "") -> Iterator[str]:
    for name, info in key_names(section).items():
        yield above + name
        for inner in sections_in(annotation_of(info)):
            yield from _keys(inner, f"{above}{name}.")


KNOWN_KEYS = frozenset(_keys(Experiment))
"""Every dotted key of an experiment file, sections included."""

_FIXED = (
    "dataset",
    "evaluation.real_anomalies_set_aside",
    "evaluation.validation.anomalies",
    *NOT_IDENTITY,
)
_VARYING = tuple(
    sorted(key for key in _keys(Settings) if not any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED))
)
_FIXED_STEPS = {
    "dataset": "Write one experiment file a data set; `dataset.classes` lists the normal classes",
    "seeds": "Every config is trained with all of `seeds`",
    "evaluation": "Set it once, outside of the grid: all configs are judged by the same images",
}


def may_vary(key: str) -> bool:
    """Whether configs may differ in this dotted key."""
    return key in _VARYING


def grid_of(layer: Layer) -> dict[str, list[Any]]:
    """The grid's well-formed keys; what is no list is reported with the schema."""
    grid = layer.tree.get("grid")
    return {key: values for key, values in grid.items() if isinstance(values, list)} if isinstance(grid, dict) else {}


def variants_of(layer: Layer) -> list[str]:
    variants = layer.tree.get("variants")
    return list(variants) if isinstance(variants, dict) else []


def variant_of(layer: Layer, name: str) -> dict[str, Any]:
    """A variant's dotted keys and values; empty when it is no mapping, which is reported with the schema."""
    value = value_at(layer.tree, ("variants", name))
    return value if isinstance(value, dict) else {}


def varying_problems(layer: Layer) -> list[Problem]:
    """Everything that is wrong with the keys of grid and variants, and with values that come twice or not at all."""
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


def key_problems(layer: Layer, written: list[Key]) -> Iterator[Problem]:
    """Keys that do not exist, or in which configs may not differ; a dotted key ends the place where it is written."""
    for place in written:
        key, where = str(place[-1]), layer.origin.where(place)
        head = key.split(".")[0]
        if may_vary(key):
            continue
        if key in KNOWN_KEYS or head == "dataset":
            allowed = "keys of " + ", ".join(dict.fromkeys(name.split(".")[0] for name in _VARYING))
            yield Problem(where, f"{key} is the same for all configs", allowed, _FIXED_STEPS.get(head, ""))
        else:
            yield Problem(
                where, f"there is no key {key}", "dotted keys such as training.epochs", closest(key, _VARYING)
            )


def overlaps(layer: Layer, groups: list[list[Key]]) -> Iterator[Problem]:
    """Keys that are set twice for one config; a group holds all that one config is given."""
    for group in groups:
        for first, second in itertools.combinations(group, 2):
            key, other = f"{first[-1]}.", f"{second[-1]}."
            if key.startswith(other) or other.startswith(key):
                what = f"it sets again what {dotted(first)} sets"
                yield Problem(layer.origin.where(second), what, next_step="Keep one of them")


def _list_problems(layer: Layer) -> Iterator[Problem]:
    for key, values in grid_of(layer).items():
        if not values:
            step = "Give it at least one, or remove the key"
            yield Problem(layer.origin.where(("grid", key)), "the list of values is empty", next_step=step)
        seen: set[str] = set()
        for index, value in enumerate(values):
            if canonical(value) in seen:
                where = layer.origin.where(("grid", key, index))
                yield Problem(where, f"the value {show(value)} is given twice", next_step="Keep one of them")
            seen.add(canonical(value))


def _name_problems(layer: Layer) -> Iterator[Problem]:
    allowed = "letters, digits, '_' and '-', beginning with a letter or digit, but not with normal_"
    first: dict[str, str] = {}
    for name in variants_of(layer):
        where = layer.origin.where(("variants", name))
        if name.casefold() == "baselines":
            what = "the folder `baselines` of a run is for what the command `baselines` makes"
            yield Problem(where, what, "any other name")
        if not re.fullmatch(VARIANT_PATTERN, name) or name.casefold().startswith("normal_"):
            yield Problem(where, f"'{name}' cannot name a variant's folder", allowed, f"Closest: '{_as_variant(name)}'")
        other = first.setdefault(name.casefold(), name)
        if other != name:
            what = f"'{other}' and '{name}' are one folder where upper and lower case do not differ"
            yield Problem(where, what, next_step="Rename one of them")


def _as_variant(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")
    return re.sub(r"^normal_", "", plain, flags=re.IGNORECASE) or "variant"
