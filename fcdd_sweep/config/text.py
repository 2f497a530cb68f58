"""Texts for messages: what a declared type allows, what was found, counts and durations."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from fcdd_sweep.config.fields import DURATION_PATTERN, EVERY_PATTERN, Section
from fcdd_sweep.config.locations import RemotePath
from fcdd_sweep.config.schema import NAME_PATTERN

_SIMPLE: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    RemotePath: "an address such as s3://BUCKET/FOLDER",
    type(None): "null",
    Any: "any value",
}
_PATTERNS = {
    NAME_PATTERN: "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 255",
    DURATION_PATTERN: "a duration such as '90s', '5m' or '2h'",
    EVERY_PATTERN: "a duration such as '90s', '5m' or '2h', or a number of epochs such as '10 epochs'",
}


def annotation_of(field: FieldInfo) -> Any:
    """Return a field's type with its limits."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def without_annotation(annotation: Any) -> tuple[Any, list[Any]]:
    """Return a type without `Annotated`, and the limits that were in it."""
    limits: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for item in extra:
            limits += item.metadata if isinstance(item, FieldInfo) else [item]
    return annotation, limits


def choices(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, flattened; for any other type that type alone."""
    inner, limits = without_annotation(annotation)
    if get_origin(inner) in (Union, types.UnionType):
        numeric = [limit for limit in limits if isinstance(limit, Ge | Gt | Le | Lt)]
        return tuple(choice for part in get_args(inner) for choice in choices(_limited(part, numeric)))
    return (annotation,)


def _limited(choice: Any, limits: list[Any]) -> Any:
    """Return a choice of a union with the limits of the union, which apply to numbers."""
    return Annotated[choice, *limits] if limits and without_annotation(choice)[0] in (int, float) else choice


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections among the types of a union."""
    inner = [without_annotation(choice)[0] for choice in choices(annotation)]
    return [kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)]


def allowed(annotation: Any) -> str:
    """Return what a type allows as text: `a whole number, at least 1`."""
    return choice_list([_allowed_alone(choice) for choice in choices(annotation)])


def _allowed_alone(annotation: Any) -> str:
    inner, limits = without_annotation(annotation)
    if get_origin(inner) is Literal:
        return choice_list([value_text(value) for value in get_args(inner)])
    if get_origin(inner) is list:
        return f"a list, each item {allowed(get_args(inner)[0])}"
    if get_origin(inner) is dict:
        return "keys and values"
    if isinstance(inner, type) and issubclass(inner, Section):
        return f"a section with {', '.join(key_names(inner))}"
    for limit in limits:
        if getattr(limit, "pattern", None) in _PATTERNS:
            return _PATTERNS[limit.pattern]
    return ", ".join([_SIMPLE[inner], *filter(None, [_range(limits)])])


def _range(limits: Iterable[Any]) -> str:
    words = []
    for limit in limits:
        match limit:
            case Ge(value):
                words.append(f"at least {_limit_text(value)}")
            case Gt(value):
                words.append(f"above {value:g}")
            case Le(value):
                words.append(f"at most {_limit_text(value)}")
            case Lt(value):
                words.append(f"below {value:g}")
    return " and ".join(words)


def _limit_text(limit: Any) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def key_names(section: type[Section]) -> dict[str, FieldInfo]:
    """Return a section's fields by the names that a file uses."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def count_noun(count: float, word: str) -> str:
    """Return a number with its noun: `1 trial`, `3 trials`, `2 classes`."""
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count:{',d' if isinstance(count, int) else 'g'}} {word if count == 1 else plural}"


def hours_text(seconds: float) -> str:
    """Return hours with two decimals, and with two digits where they are less than a hundredth: 12.50, 0.0017."""
    hours = seconds / 3600
    decimals = 1 - math.floor(math.log10(hours)) if 0 < hours < 0.01 else 2
    return f"{hours:.{decimals}f}"


def duration_text(seconds: float) -> str:
    """Return a duration as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def choice_list(words: list[str]) -> str:
    """Return distinct words as `a, b or c`."""
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def value_text(value: Any) -> str:
    """Return a value as it is written in a file, shortened to 80 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            text = f"'{value}'"
        case list():
            text = f"[{', '.join(map(value_text, value))}]"
        case dict():
            text = f"{{{', '.join(f'{key}: {value_text(item)}' for key, item in value.items())}}}"
        case _:
            text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def found_text(value: Any) -> str:
    """Return `found the text 'x'`; the kind is named where it may be the mistake."""
    match value:
        case None:
            return "found nothing"
        case str():
            return f"found the text {value_text(value)}"
        case list():
            return f"found the list {value_text(value)}"
        case dict():
            return f"found keys and values {value_text(value)}"
        case _:
            return f"found {value_text(value)}"
