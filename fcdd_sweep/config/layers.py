"""Where each key of an experiment came from, so that every problem can say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fcdd_sweep.config.errors import Key, Origin, SourceLine
from fcdd_sweep.config.schema import MODES_WITHOUT_SOURCE

Tree = dict[str, Any]


@dataclass(frozen=True)
class ConfigLayer:
    """Plain nested values and the places that they were written at."""

    tree: Tree
    places: dict[Key, SourceLine] = field(default_factory=dict)

    @property
    def origin(self) -> Origin:
        return Origin(self.places)


def _schedule_changes(lower: Tree, upper: Tree) -> bool:
    return _is_another(lower, upper, "type")


def _dataset_changes(lower: Tree, upper: Tree) -> bool:
    return _is_another(lower, upper, "name")


def _network_changes(lower: Tree, upper: Tree) -> bool:
    """A network of the table, or a backbone: naming one takes back the other."""
    kinds = [{key for key in ("name", "backbone") if layer.get(key) is not None} for layer in (lower, upper)]
    return bool(kinds[0] and kinds[1] and kinds[0] != kinds[1])


def _mode_changes(lower: Tree, upper: Tree) -> bool:
    """Source and limit of one mode mean nothing to another, except between modes that both take a source."""
    old, new = lower.get("mode"), upper.get("mode")
    if old is None or new is None or old == new:
        return False
    return old in MODES_WITHOUT_SOURCE or new in MODES_WITHOUT_SOURCE


def _cleared(lower: Tree, upper: Tree) -> bool:
    return not upper


def _source_changes(lower: Tree, upper: Tree) -> bool:
    """Two kinds of source, or two data sets; where one of them lies is a key that can be set alone."""
    alone = ("folder", "from_test")
    return any(key in layer for key in alone for layer in (lower, upper)) or _is_another(lower, upper, "dataset")


def _is_another(lower: Tree, upper: Tree, key: str) -> bool:
    return key in lower and key in upper and upper[key] != lower[key]


def _never(lower: Tree, upper: Tree) -> bool:
    return False


_REPLACED_WHOLE: dict[Key, Callable[[Tree, Tree], bool]] = {
    ("dataset",): _dataset_changes,
    ("dataset", "options"): _cleared,
    ("network",): _network_changes,
    ("anomalies",): _mode_changes,
    ("anomalies", "source"): _source_changes,
    ("evaluation", "validation", "anomalies"): _source_changes,
    ("training", "schedule"): _schedule_changes,
    ("grid",): _cleared,
    ("variants",): _cleared,
    ("search", "space"): _cleared,
}
"""Mappings that are merged key by key only while this says no: their old keys would contradict the new ones."""


def overlay(upper: ConfigLayer, over: ConfigLayer) -> ConfigLayer:
    """`upper` laid over another layer: mappings are merged key by key, everything else is replaced."""
    places = dict(over.places)
    tree = _merge((), over.tree, upper.tree, places)
    return ConfigLayer(tree, {**places, **upper.places})


def _merge(key: Key, lower: Any, upper: Any, places: dict[Key, SourceLine]) -> Any:
    mergeable = isinstance(lower, dict) and isinstance(upper, dict) and not _is_axis(key)
    if not mergeable or _REPLACED_WHOLE.get(key, _never)(lower, upper):
        for stale in [place for place in places if place[: len(key)] == key]:
            del places[stale]
        return upper
    new = {
        name: _merge((*key, name), lower[name], value, places) if name in lower else value
        for name, value in upper.items()
    }
    return {**lower, **new}


def _is_axis(key: Key) -> bool:
    """Whether this is one key of a search's space: a range and a list of choices do not mix."""
    return key[:2] == ("search", "space") and len(key) == 3


def nest(key: Key, value: Any) -> Tree:
    """`{"training": {"epochs": 3}}` of `("training", "epochs")` and 3."""
    for part in reversed(key):
        value = {part: value}
    return dict(value)


def split_key(text: str) -> Key:
    """The parts of a dotted key; `grid`, `variants.NAME` and `search.space` are followed by one that stays whole."""
    parts = text.split(".")
    whole_after = {"grid": 1, "variants": 2}.get(parts[0], len(parts))
    if parts[:2] == ["search", "space"]:
        whole_after = 2
    rest = parts[whole_after:]
    return (*parts[:whole_after], ".".join(rest)) if rest else tuple(parts)


def value_at_key(tree: Any, key: Key) -> Any:
    """The value at `key`, or None where there is none."""
    for part in key:
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree
