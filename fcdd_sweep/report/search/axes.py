"""Axes of a search space: the position of a suggested value, and the groups by which values are summarized."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray

LAST = "all"
"""The choice that comes after all numbers, in whatever order the file lists them."""
MOST_GROUPS = 12
"""Up to this many distinct whole numbers, each is a group; more values are grouped by `BINS`."""
BINS = 6
"""Number of intervals of equal width, on the axis's scale, into which a range is divided."""


class Group(NamedTuple):
    """Configs whose values of a key are summarized together.

    Attributes:
        text: the choice, the value, or the interval of the range.
        low, high: bounds; NaN for a choice.
        rows: indices of the configs.
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
        choices: texts of the choices in order; empty for a range.
        log: whether a range is on a logarithmic scale.
        low, high: smallest and largest suggested value of a range; NaN when there is none.
    """

    key: str
    choices: tuple[str, ...] = ()
    log: bool = False
    low: float = np.nan
    high: float = np.nan

    def positions(self, values: Sequence[Any]) -> FloatArray:
        """Return (N,) positions: the index of a choice or the number of a range; NaN where the key is absent."""
        if self.choices:
            index = {text: float(i) for i, text in enumerate(self.choices)}
            return np.array([np.nan if value is None else index[text_of(value)] for value in values], np.float64)
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)

    def unit(self, positions: FloatArray) -> FloatArray:
        """Return positions as shares of the axis's length, on its scale; 0.5 on an axis of a single point."""
        low, high = (0.0, len(self.choices) - 1.0) if self.choices else (self.low, self.high)
        if not high > low:
            return np.where(np.isnan(positions), np.nan, 0.5)
        if self.log:
            return (np.log(positions) - np.log(low)) / (np.log(high) - np.log(low))
        return (positions - low) / (high - low)

    def edges(self, count: int) -> FloatArray:
        """Return the (count + 1,) bounds of `count` intervals of a range, of equal width on its scale."""
        spaced = np.geomspace if self.log else np.linspace
        return spaced(self.low, self.high, count + 1)

    def groups(self, values: Sequence[Any]) -> list[Group]:
        """Return one group per choice in order (empty ones too), distinct whole number, or interval of a range."""
        positions = self.positions(values)
        if self.choices:
            return [Group(text, np.nan, np.nan, _rows(positions == i)) for i, text in enumerate(self.choices)]
        distinct = np.unique(positions[~np.isnan(positions)])
        if len(distinct) <= MOST_GROUPS and (distinct % 1 == 0).all():
            return [Group(f"{value:g}", value, value, _rows(positions == value)) for value in distinct]
        return self.intervals(positions, BINS)

    def intervals(self, positions: FloatArray, count: int) -> list[Group]:
        """Divide a range into `count` intervals; the upper end belongs to the last."""
        if not self.high > self.low:
            return [Group(f"{self.low:g}", self.low, self.high, _rows(~np.isnan(positions)))]
        edges = self.edges(count)
        inner = np.searchsorted(edges[1:-1], positions, side="right")
        return [
            Group(f"{low:.2g} to {high:.2g}", low, high, _rows((inner == i) & ~np.isnan(positions)))
            for i, (low, high) in enumerate(itertools.pairwise(edges))
        ]


def _rows(mask: Any) -> tuple[int, ...]:
    return tuple(int(row) for row in np.flatnonzero(mask))


def text_of(value: Any) -> str:
    """Return the text of a value, the same for equal values: words as they are, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def plain(value: Any) -> Any:
    """Return the value in a cell of a column `param.KEY`: columns of mixed values hold JSON, and words as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def plot_axis(key: str, values: Sequence[Any], *, log: bool, choices: Sequence[Any] | None) -> PlotAxis:
    """Return the axis of a key.

    Args:
        values: suggested values, None where the key was absent.
        choices: those in the experiment file; None for a range, or when the file cannot be read.
    """
    given = [value for value in values if value is not None]
    if choices is None and all(_is_number(value) for value in given):
        numbers = [float(value) for value in given] or [np.nan]
        return PlotAxis(key, log=log and min(numbers) > 0, low=min(numbers), high=max(numbers))
    return PlotAxis(key, choices=tuple(in_order([*(choices or ()), *given])))


def in_order(values: Iterable[Any]) -> list[str]:
    """Return the texts of distinct choices: numbers by size, then words in the given order, `all` last."""
    distinct: Mapping[str, Any] = {text_of(value): value for value in values}
    numbers = sorted((text for text in distinct if _is_number(distinct[text])), key=lambda text: float(distinct[text]))
    words = [text for text in distinct if text not in numbers and text != LAST]
    return [*numbers, *words, *([LAST] if LAST in distinct else [])]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
