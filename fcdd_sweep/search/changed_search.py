"""What distinguishes a search from the one that a study was made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fcdd_sweep.config.layers import dotted_values
from fcdd_sweep.config.text import value_text

_MOST_NAMED = 3
"""Keys that are named."""
_SETTINGS = "settings."
_NAMES = {"classes": "classes of the search", "seeds": "seeds of the search"}
"""Of what several keys of the file decide; `settings` are keys of the file, all others those of its search."""


def changed_text(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the keys in which two searches differ, with both values, as `training.epochs 3 (here 2)`; empty if none.

    Args:
        earlier, now: what must stay the same while a study grows, see `Study`; `settings` without defaults.
    """
    before, after = dict(dotted_values(earlier)), dict(dotted_values(now))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    texts = [f"{_name(key)} {_text(before, key)} (here {_text(after, key)})" for key in keys[:_MOST_NAMED]]
    more = len(keys) - _MOST_NAMED
    return ", ".join([*texts, *([f"and {more} more"] if more > 0 else [])])


def _name(key: str) -> str:
    if key in _NAMES:
        return _NAMES[key]
    return key.removeprefix(_SETTINGS) if key.startswith(_SETTINGS) else f"search.{key}"


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None:
        return "its default" if key.startswith(_SETTINGS) else "not set"
    return value_text(value)
