"""Two searched keys together: which two, and the value over them, in cells or interpolated where that can be honest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.run_files import TableRow
from fcdd_sweep.report.search.axes import BINS, Group, PlotAxis
from fcdd_sweep.report.search.plot_data import LEARNING_RATE, LIMIT, known
from fcdd_sweep.report.search.record import SearchRecord

_WIDTHS = (0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.45)
"""Standard deviations of the smoothing Gaussian that are tried, in lengths of an axis."""
_LEAST = 10
"""Configs that an interpolation needs."""
_MOST = 1000
"""Configs that it is made from; of more, evenly many."""
_LEAST_SKILL = 0.25
"""Below it nothing is drawn: the best of so many widths explains a little of mere noise."""
_GRID = 48
_NEAR = float(np.exp(-0.5))
"""Weight of one config that is one width away: where all together weigh less, nothing is interpolated."""


class Surface(NamedTuple):
    """The value over two ranges.

    Attributes:
        skill: share of the variance that it explains in configs that it was not made from; at most 1.
        values: (grid, grid), row i at the i-th part of y; NaN where no config is near.
    """

    skill: float
    values: FloatArray


class Pair(NamedTuple):
    """Two keys and the cells over them; `skill` is that of the surface, NaN where there is none."""

    x: PlotAxis
    y: PlotAxis
    cells: list[TableRow]
    skill: float


def by_relevance(search: SearchRecord) -> list[PlotAxis]:
    """The axes, the most important first; those of unknown importance in the order of the space."""
    return sorted(search.axes, key=lambda axis: -search.importance.get(axis.key, 0.0))


def chosen_pair(search: SearchRecord) -> tuple[PlotAxis, PlotAxis] | None:
    """Learning rate and limit of anomalies where both are searched, else the two most important keys.

    A range stands before a list of choices. None when only one key is searched.
    """
    by_key = {axis.key: axis for axis in search.axes}
    ranked = by_relevance(search)
    pair = [by_key[key] for key in (LEARNING_RATE, LIMIT)] if {LEARNING_RATE, LIMIT} <= set(by_key) else ranked[:2]
    if len(pair) < 2:
        return None
    x, y = sorted(pair, key=lambda axis: bool(axis.choices))
    return x, y


def pair_of(search: SearchRecord, metric: int) -> Pair | None:
    """The chosen keys and their cells: a surface over two ranges, medians where either has choices."""
    keys = chosen_pair(search)
    if keys is None:
        return None
    x, y = keys
    if x.choices or y.choices:
        return Pair(x, y, _median_cells(search, metric, x, y), np.nan)
    surface = _surface(search, metric, x, y)
    cells = _surface_cells(search, metric, x, y, surface) if surface else []
    return Pair(x, y, cells, surface.skill if surface else np.nan)


def groups_of(search: SearchRecord, axis: PlotAxis) -> list[Group]:
    values = search.parameter(axis.key)
    return axis.groups(values) if axis.choices else axis.parts(axis.place(values), BINS)


def _median_cells(search: SearchRecord, metric: int, x: PlotAxis, y: PlotAxis) -> list[TableRow]:
    values = search.values(metric)
    cells = []
    for across in groups_of(search, x):
        for up in groups_of(search, y):
            both = sorted(set(across.rows) & set(up.rows))
            rows = [row for row in both if not np.isnan(values[row])]
            median = float(np.median(values[rows])) if rows else None
            cells.append(
                _cell(
                    search.metrics[metric], "median", (x, across), (y, up), median, (len(rows), len(both) - len(rows))
                )
            )
    return cells


def _cell(
    metric: str,
    kind: str,
    x: tuple[PlotAxis, Group],
    y: tuple[PlotAxis, Group],
    value: float | None,
    counts: tuple[int, int],
) -> TableRow:
    cell: TableRow = {"metric": metric, "kind": kind, "x_key": x[0].key, "y_key": y[0].key, "value": value}
    cell |= {"n": counts[0], "n_other": counts[1]}
    for side, (axis, group) in (("x", x), ("y", y)):
        cell |= {f"{side}_low": known(group.low), f"{side}_high": known(group.high)}
        cell |= {f"{side}_choice": group.text if axis.choices else None}
    return cell


def _surface(search: SearchRecord, metric: int, x: PlotAxis, y: PlotAxis) -> Surface | None:
    points = np.stack([x.unit(search.places(x)), y.unit(search.places(y))], axis=1)
    values = search.values(metric)
    whole = np.flatnonzero(~np.isnan(values) & ~np.isnan(points).any(axis=1))
    if len(whole) < _LEAST or not (x.high > x.low and y.high > y.low):
        return None
    if len(whole) > _MOST:
        whole = whole[np.linspace(0, len(whole) - 1, _MOST).astype(int)]
    return interpolated(points[whole], values[whole])


def interpolated(points: FloatArray, values: FloatArray) -> Surface | None:
    """Weighted means of the values near each point of a grid over the unit square.

    The width of the weights is the one that predicts best each config from the others.

    Args:
        points: (N, 2) in the unit square.
        values: (N,) without NaN.
    Returns:
        None where no width predicts clearly better than the mean of the others.
    """
    n = len(values)
    plain = float(np.mean((values - (values.sum() - values) / max(n - 1, 1)) ** 2))
    errors = [float(np.mean((values - _left_out(points, values, width)) ** 2)) for width in _WIDTHS]
    best = int(np.argmin(errors))
    skill = 1 - errors[best] / plain if plain else 0.0
    if skill < _LEAST_SKILL:
        return None
    middles = (np.arange(_GRID) + 0.5) / _GRID
    at = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    weights = _weights(at, points, _WIDTHS[best])
    total = weights.sum(axis=1)
    near = total >= _NEAR
    smooth = np.full(len(at), np.nan)
    smooth[near] = weights[near] @ values / total[near]
    return Surface(skill, smooth.reshape(_GRID, _GRID))


def _left_out(points: FloatArray, values: FloatArray, width: float) -> FloatArray:
    """Each value as the others predict it; their mean where none is near."""
    weights = _weights(points, points, width)
    np.fill_diagonal(weights, 0.0)
    total = weights.sum(axis=1)
    others = (values.sum() - values) / (len(values) - 1)
    near = total >= _NEAR
    return np.where(near, weights @ values / np.where(near, total, 1.0), others)


def _weights(at: FloatArray, points: FloatArray, width: float) -> FloatArray:
    squared = ((at[:, None] - points[None]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * squared / width**2)


def _surface_cells(search: SearchRecord, metric: int, x: PlotAxis, y: PlotAxis, surface: Surface) -> list[TableRow]:
    valued = set(np.flatnonzero(~np.isnan(search.values(metric))).tolist())
    across = x.parts(search.places(x), _GRID)
    up = y.parts(search.places(y), _GRID)
    cells = []
    for i, right in enumerate(across):
        for j, above in enumerate(up):
            rows = set(right.rows) & set(above.rows)
            counts = (len(rows & valued), len(rows - valued))
            value = known(surface.values[j, i])
            cells.append(_cell(search.metrics[metric], "surface", (x, right), (y, above), value, counts))
    return cells
