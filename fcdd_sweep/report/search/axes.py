"""The axes of a search's space: where a suggested value lies, and in which groups values are summed up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray

LAST = "all"
"""The choice that stands after all numbers, whatever the order in the file."""
MOST_GROUPS = 12
"""Up to this many distinct values of a range, each is a group of its own."""
BINS = 6
"""Parts of equal width, on the axis's scale, of a range with more values."""


class Group(NamedTuple):
    """Configs whose values of a key belong together.

    Attributes:
        text: the choice, the value, or the part of the range.
        low, high: bounds; NaN for a choice.
        rows: which configs.
    """

    text: str
    low: float
    high: float
    rows: tuple[int, ...]


@dataclass(frozen=True)
class PlotAxis:
    """One searched key.

    Attributes:
        key: dotted.
        choices: their texts in order; empty for a range.
        log: whether a range is on a logarithmic scale.
        low, high: smallest and largest value suggested from a range; NaN without any.
    """

    key: str
    choices: tuple[str, ...] = ()
    log: bool = False
    low: float = np.nan
    high: float = np.nan

    def place(self, values: Sequence[Any]) -> FloatArray:
        """Where values lie along the axis: the index of a choice, a range's own number, NaN where a key is absent."""
        if self.choices:
            index = {text: float(i) for i, text in enumerate(self.choices)}
            return np.array([np.nan if value is None else index[text_of(value)] for value in values], np.float64)
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)

    def unit(self, places: FloatArray) -> FloatArray:
        """Places as shares of the axis's length, on its scale; 0.5 throughout on an axis of one point."""
        low, high = (0.0, len(self.choices) - 1.0) if self.choices else (self.low, self.high)
        if not high > low:
            return np.where(np.isnan(places), np.nan, 0.5)
        if self.log:
            return (np.log(places) - np.log(low)) / (np.log(high) - np.log(low))
        return (places - low) / (high - low)

    def edges(self, parts: int) -> FloatArray:
        """The bounds of so many parts of a range, of equal width on its scale, (parts + 1,)."""
        spaced = np.geomspace if self.log else np.linspace
        return spaced(self.low, self.high, parts + 1)

    def groups(self, values: Sequence[Any]) -> list[Group]:
        """Choices, in their order and also where nothing was suggested; or distinct values, or parts of a range."""
        places = self.place(values)
        if self.choices:
            return [Group(text, np.nan, np.nan, _rows(places == i)) for i, text in enumerate(self.choices)]
        distinct = np.unique(places[~np.isnan(places)])
        if len(distinct) <= MOST_GROUPS and (places[~np.isnan(places)] % 1 == 0).all():
            return [Group(f"{value:g}", value, value, _rows(places == value)) for value in distinct]
        return self.parts(places, BINS)

    def parts(self, places: FloatArray, count: int) -> list[Group]:
        """A range in parts; the upper end belongs to the last."""
        if not self.high > self.low:
            return [Group(f"{self.low:g}", self.low, self.high, _rows(~np.isnan(places)))]
        edges = self.edges(count)
        inner = np.searchsorted(edges[1:-1], places, side="right")
        return [
            Group(f"{low:.2g} to {high:.2g}", low, high, _rows((inner == i) & ~np.isnan(places)))
            for i, (low, high) in enumerate(itertools.pairwise(edges))
        ]


def _rows(mask: Any) -> tuple[int, ...]:
    return tuple(int(row) for row in np.flatnonzero(mask))


def text_of(value: Any) -> str:
    """One text for equal values, as a reader would write them."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def plain(value: Any) -> Any:
    """The value behind a cell of a column `param.KEY`: columns of mixed values hold JSON, and words as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def plot_axis(key: str, values: Sequence[Any], *, log: bool, choices: Sequence[Any] | None) -> PlotAxis:
    """The axis of a key.

    Args:
        values: what was suggested, None where the key was absent.
        choices: as the experiment file lists them; None for a range, or when the file cannot be read.
    """
    given = [value for value in values if value is not None]
    if choices is None and all(_is_number(value) for value in given):
        numbers = [float(value) for value in given] or [np.nan]
        return PlotAxis(key, log=log and min(numbers) > 0, low=min(numbers), high=max(numbers))
    return PlotAxis(key, choices=tuple(in_order([*(choices or ()), *given])))


def in_order(values: Iterable[Any]) -> list[str]:
    """Texts of distinct choices: numbers by size, other words as they come, `all` last."""
    distinct: Mapping[str, Any] = {text_of(value): value for value in values}
    numbers = sorted((text for text in distinct if _is_number(distinct[text])), key=lambda text: float(distinct[text]))
    words = [text for text in distinct if text not in numbers and text != LAST]
    return [*numbers, *words, *([LAST] if LAST in distinct else [])]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
