"""Layers of an experiment - preset, file, overrides - and where each key was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fcdd_sweep.config.errors import Key, Origin, SourceLine
from fcdd_sweep.config.schema import MODES_WITHOUT_SOURCE

Tree = dict[str, Any]


@dataclass(frozen=True)
class ConfigLayer:
    """Nested plain values, and where each was written."""

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
    """Return whether one layer names a network and the other a backbone: they exclude each other."""
    kinds = [{key for key in ("name", "backbone") if layer.get(key) is not None} for layer in (lower, upper)]
    return bool(kinds[0] and kinds[1] and kinds[0] != kinds[1])


def _mode_changes(lower: Tree, upper: Tree) -> bool:
    """Return whether source and limit of the lower layer mean nothing to the upper mode: unless both take a source."""
    old, new = lower.get("mode"), upper.get("mode")
    if old is None or new is None or old == new:
        return False
    return old in MODES_WITHOUT_SOURCE or new in MODES_WITHOUT_SOURCE


def _cleared(lower: Tree, upper: Tree) -> bool:
    return not upper


def _source_changes(lower: Tree, upper: Tree) -> bool:
    """Return whether two layers name different kinds of source or different data sets; a root can be set alone."""
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
"""Mappings that are replaced whole where the function is true: their old keys would contradict the new ones."""


def overlay(upper: ConfigLayer, over: ConfigLayer) -> ConfigLayer:
    """Return `upper` laid over another layer: mappings are merged key by key, everything else is replaced."""
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
    """Return whether this is a key of a search's space: a range and a list of choices do not mix."""
    return key[:2] == ("search", "space") and len(key) == 3


def nest(key: Key, value: Any) -> Tree:
    """Return `{"training": {"epochs": 3}}` for `("training", "epochs")` and 3."""
    for part in reversed(key):
        value = {part: value}
    return dict(value)


def split_key(text: str) -> Key:
    """Return the parts of a dotted key; the key after `grid`, `variants.NAME` or `search.space` is not split."""
    parts = text.split(".")
    whole_after = {"grid": 1, "variants": 2}.get(parts[0], len(parts))
    if parts[:2] == ["search", "space"]:
        whole_after = 2
    rest = parts[whole_after:]
    return (*parts[:whole_after], ".".join(rest)) if rest else tuple(parts)


def value_at_key(tree: Any, key: Key) -> Any:
    """Return the value at `key`, or None if there is none."""
    for part in key:
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree


def dotted_values(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything in a tree that is no mapping."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from dotted_values(value, f"{above}{key}.")
        else:
            yield above + key, value
