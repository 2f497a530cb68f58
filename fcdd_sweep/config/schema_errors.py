"""pydantic's errors as problems: where, what was found, what is allowed, the nearest valid name or the new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fcdd_sweep.config.errors import Key, Origin, Problem, dotted
from fcdd_sweep.config.fields import DatasetSource, FolderSource, FromTestSource, Section, TopScore
from fcdd_sweep.config.layers import Tree, value_at_key
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import SCHEMA_VERSION
from fcdd_sweep.config.search_schema import MOST_VALUES
from fcdd_sweep.config.text import (
    allowed,
    annotation_of,
    choice_list,
    choices,
    found_text,
    key_names,
    sections_in,
    without_annotation,
)
from fcdd_sweep.config.training_schema import ExponentialSchedule, MilestoneSchedule

RENAMED_KEYS = {
    "images.raw_size": "images.load_size",
    "heatmaps.quantile": "heatmaps.color_quantile",
    "evaluation.real_anomalies_set_aside": "evaluation.reserved_anomalies",
    "evaluation.validation.anomalies.set_aside": "evaluation.validation.anomalies.from_test",
    "search.prune.keep": "search.prune.keep_fraction",
}
"""Dotted keys of schema 1 and their names in schema 2."""
REPLACED_KEYS = {
    "evaluation.threshold_quantile": (
        "evaluation.false_alarm_rate",
        "Write evaluation.false_alarm_rate: 0.05 for a threshold_quantile of 0.95",
    )
}
"""Dotted keys that another key replaced, whose values mean something else: the new key, and how to write it."""
RENAMED_VALUES = {("images.color", "grey"): "gray", ("keep.maps", "pictured"): "shown"}
"""By dotted key and value of schema 1, the value in schema 2."""
_TAGGED: dict[str | int, Any] = {
    "(name)": str,
    "(dataset)": DatasetSource,
    "(folder)": FolderSource,
    "(from_test)": FromTestSource,
    "(top)": TopScore,
    "(exponential)": ExponentialSchedule,
    "(milestones)": MilestoneSchedule,
}
"""Tags of the schema's unions; brackets keep them apart from keys."""
_ALLOWED: dict[Key, str] = {
    ("dataset", "classes"): "all, or a list of class names or numbers such as [bottle, 3]",
    ("anomalies", "source"): "the name of a synthetic source, {dataset: NAME} or {folder: PATH}",
    (
        "evaluation",
        "validation",
        "anomalies",
    ): "none, training, the name of a synthetic source, {dataset: NAME}, {folder: PATH} or {from_test: N}",
    ("evaluation", "image_score"): "'mean', 'max', 'auto' or {top: SHARE} with SHARE 0.001, 0.01, 0.03 or 0.1",
    ("seeds",): f"how many seeds, at least 1 and at most {MOST_VALUES}, or a list of seeds such as [0, 1, 2]",
    (
        "training",
        "schedule",
    ): "{type: exponential, factor: F} or {type: milestones, milestones: [EPOCH, ...], factor: F}",
}
"""Texts for keys whose types would make a clumsy one."""
_ALLOWED_BELOW: dict[Key, str] = {
    ("grid",): "a list of values such as training.learning_rate: [0.1, 0.01]",
    ("variants",): "dotted keys and their values such as {network.bias: false}",
}


@dataclass(frozen=True)
class Fault:
    """A problem, the key that it is about, and whether that key is missing."""

    key: Key
    problem: Problem
    missing: bool


def faults(error: ValidationError, root: type[Section], origin: Origin) -> list[Fault]:
    """Return one fault per key, however many of pydantic's errors are about it."""
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "value_error")
    spots = [(detail, *_locate(detail["loc"], root)) for detail in details]  # our own sentences before pydantic's
    keys = {key for _, key, _ in spots}
    found_faults: dict[Key, Fault] = {}
    for detail, key, annotation in spots:
        deeper = any(len(other) > len(key) and other[: len(key)] == key for other in keys)
        # a list with one bad item is reported by the item; pydantic also reports that it is not 'all'
        if key not in found_faults and (not deeper or detail["type"] == "value_error"):
            found_faults[key] = Fault(key, _problem(detail, key, annotation, origin), detail["type"] == "missing")
    written = {RENAMED_KEYS.get(dotted(key)) for key in found_faults}  # under its old name a key is not missing
    return [fault for key, fault in found_faults.items() if not (fault.missing and dotted(key) in written)]


def _locate(loc: tuple[str | int, ...], root: type[Section]) -> tuple[Key, Any]:
    """Return the key that an error is about and the type that the schema declares for it.

    pydantic's locations also name the choices of unions, which are not keys.
    """
    key: Key = ()
    annotation: Any = root
    for part in loc:
        if part in _TAGGED:
            annotation = _TAGGED[part]
            continue
        inner = _into(annotation, part)
        if inner is not None:
            key, annotation = (*key, part), inner
    return key, annotation


def _into(annotation: Any, part: str | int) -> Any:
    """Return the type below `part`; None where `part` names a choice of a union; for an unknown key its section."""
    for choice in choices(annotation):
        kind, _ = without_annotation(choice)
        if isinstance(kind, type) and issubclass(kind, Section):
            field = key_names(kind).get(str(part))
            return kind if field is None else annotation_of(field)
        if get_origin(kind) is list and isinstance(part, int):
            return get_args(kind)[0]
        if get_origin(kind) is dict and annotation is choice:
            return get_args(kind)[1]
    return None


def _problem(detail: ErrorDetails, key: Key, annotation: Any, origin: Origin) -> Problem:
    where = origin.where(key)
    match detail["type"]:
        case "extra_forbidden":
            return unknown_key(where, key, sections_in(annotation)[0])
        case "missing":
            return Problem(where, "the key is missing", _allowed(key, annotation), _preset_step(key))
        case "value_error":
            return Problem(where, str(detail["ctx"]["error"]))
    value = detail["input"]
    if key == ("schema",):
        return _schema_problem(where, value)
    if detail["type"].startswith("union_tag") and isinstance(value, dict):
        return _type_problem(origin.where((*key, "type")), value)
    return Problem(where, found_text(value), _allowed(key, annotation), _value_step(key, value, annotation))


def unknown_key(where: str, key: Key, section: type[Section]) -> Problem:
    """Return the problem of an unknown key: its new name, the nearest key, or how a dotted key is written."""
    if renamed := renamed_key(where, dotted(key)):
        return renamed
    names, last = list(key_names(section)), str(key[-1])
    head, _, tail = last.partition(".")
    step = closest(last, names)
    if tail and head in names:
        step = f"Write it as `{head}: {{{tail}: ...}}`"
    return Problem(where, "there is no such key", ", ".join(names), step)


def renamed_key(where: str, key: str) -> Problem | None:
    """Return the problem of a dotted key that was renamed or replaced; None for any other key."""
    if key in REPLACED_KEYS:
        new, step = REPLACED_KEYS[key]
        return Problem(where, f"{key} was replaced by {new}", next_step=step)
    if key not in RENAMED_KEYS:
        return None
    return Problem(
        where, f"{key} was renamed to {RENAMED_KEYS[key]} in schema 2", next_step=f"Write {RENAMED_KEYS[key]}"
    )


def _allowed(key: Key, annotation: Any) -> str:
    return _ALLOWED.get(key) or _ALLOWED_BELOW.get(key[:1]) or allowed(annotation)


def _preset_step(key: Key) -> str:
    if key == ("schema",):
        return f"Write `schema: {SCHEMA_VERSION}`"
    names = preset_fills(key)
    return f"Give it a value, or name a preset that does (`preset: NAME`): {', '.join(names)}" if names else ""


def preset_fills(key: Key) -> list[str]:
    """Return the names of the presets that set this key."""
    return [name for name, preset in PRESETS.items() if value_at_key(preset.tree, key) is not None]


def _schema_problem(where: str, value: Any) -> Problem:
    if value == 1 and not isinstance(value, bool):
        keys = [f"{old} -> {new}" for old, new in RENAMED_KEYS.items()]
        values = [f"{key}: {old} -> {new}" for (key, old), new in RENAMED_VALUES.items()]
        step = f"Write `schema: {SCHEMA_VERSION}` and use the new names: {', '.join([*keys, *values])}"
        return Problem(where, "found 1, but schema 2 renamed keys and values", str(SCHEMA_VERSION), step)
    return Problem(
        where,
        f"{found_text(value)}, a version of experiment files that this program does not read",
        str(SCHEMA_VERSION),
        f"Write `schema: {SCHEMA_VERSION}`, or use the version of fcdd_sweep that the file was written for",
    )


def _type_problem(where: str, schedule: Mapping[str, Any]) -> Problem:
    names = ("exponential", "milestones")
    if "type" not in schedule:
        return Problem(where, "the key is missing", choice_list([f"'{name}'" for name in names]))
    kind = schedule["type"]
    return Problem(where, found_text(kind), choice_list([f"'{name}'" for name in names]), closest(kind, names))


def _value_step(key: Key, value: Any, annotation: Any) -> str:
    """Return what to write instead, where it is known."""
    if value is None:
        return "Give it a value, or remove the key"
    if isinstance(value, str):
        return _text_step(key, value, annotation)
    if isinstance(value, int | float) and any(without_annotation(choice)[0] is str for choice in choices(annotation)):
        return "Put it in quotes if it is meant as text"
    return ""


def _text_step(key: Key, value: str, annotation: Any) -> str:
    if (renamed := RENAMED_VALUES.get((dotted(key), value))) is not None:
        return f"Write {renamed}: schema 2 renamed the value"
    sections = sections_in(annotation)
    if sections and "name" in key_names(sections[0]):
        return f"Write it as `{key[-1]}: {{name: {value}}}`"
    kinds = [without_annotation(choice)[0] for choice in choices(annotation)]
    if any(get_origin(kind) is list for kind in kinds):
        return f"Write a list: [{value}]"
    names = [name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind) if isinstance(name, str)]
    return closest(value, names)


S = TypeVar("S", bound=Section)


def validated(root: type[S], tree: Tree, origin: Origin) -> tuple[S | None, list[Fault]]:
    """Return the section that `tree` describes, or None and everything that is wrong with it."""
    try:
        return root.model_validate(tree), []
    except ValidationError as error:
        return None, faults(error, root, origin)


def valid_section(kind: type[S], tree: Any) -> S | None:
    """Return the section that `tree` describes, without unknown keys; None when anything else is wrong with it."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
    unknown = {
        detail["loc"][0] for detail in details if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1
    }
    if len(unknown) < len(details):
        return None
    return kind.model_validate({key: value for key, value in tree.items() if key not in unknown})
