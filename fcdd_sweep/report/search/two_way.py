"""Pairs: two searched keys, with the value over them, and two metrics against each other.

The value over two keys is shown as a table of medians, or interpolated where the configs support it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.figures.style import INK, SMALL_PT, TEXT_PT, dress, new_figure
from fcdd_sweep.report.search import marks
from fcdd_sweep.report.search.axes import BINS, Group, PlotAxis
from fcdd_sweep.report.search.marks import (
    BEST_COLOR,
    DEFAULT_COLOR,
    DONE_COLOR,
    STATE_MARKS,
    mark_handle,
    marked,
    metric_name,
    metric_value_text,
)
from fcdd_sweep.report.search.numbers import (
    LEARNING_RATE,
    LIMIT,
    all_values,
    by_relevance,
    known,
    pareto_rows,
    running_best,
)
from fcdd_sweep.report.search.record import SearchRecord
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.files import TableRow

_WIDTHS = (0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.45)
"""Candidate standard deviations of the smoothing Gaussian, as shares of an axis's length."""
_LEAST = 10
"""Fewest configs for an interpolation."""
_MOST = 1000
"""Most configs for an interpolation; of more, evenly spaced ones are used."""
_LEAST_SKILL = 0.25
"""Below it no surface is drawn: the best of several widths explains some of pure noise, too."""
_GRID = 48
_NEAR = float(np.exp(-0.5))
"""Weight of one config at a distance of one width: where the sum of weights is lower, nothing is interpolated."""


class Surface(NamedTuple):
    """The value over two ranges.

    Attributes:
        skill: share of the variance explained in left-out configs; at most 1.
        values: (grid, grid), row i at the i-th interval of y; NaN where no config is near.
    """

    skill: float
    values: FloatArray


class Pair(NamedTuple):
    """Two keys and the cells over them; `skill` of the surface, NaN where there is none."""

    x: PlotAxis
    y: PlotAxis
    cells: list[TableRow]
    skill: float


def chosen_pair(search: SearchRecord) -> tuple[PlotAxis, PlotAxis] | None:
    """Return learning rate and limit of anomalies where both are searched, else the two most important keys.

    A range comes before a list of choices. None when only one key is searched.
    """
    by_key = {axis.key: axis for axis in search.axes}
    ranked = by_relevance(search)
    pair = [by_key[key] for key in (LEARNING_RATE, LIMIT)] if {LEARNING_RATE, LIMIT} <= set(by_key) else ranked[:2]
    if len(pair) < 2:
        return None
    x, y = sorted(pair, key=lambda axis: bool(axis.choices))
    return x, y


def pair_of(search: SearchRecord, metric: int) -> Pair | None:
    """Return the chosen keys and their cells: a surface over two ranges, medians where either has choices."""
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
    """Return the groups of one side of the cells: choices, or intervals of a range."""
    values = search.parameter(axis.key)
    return axis.groups(values) if axis.choices else axis.intervals(axis.positions(values), BINS)


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
    points = np.stack([x.unit(search.positions(x)), y.unit(search.positions(y))], axis=1)
    values = search.values(metric)
    whole = np.flatnonzero(~np.isnan(values) & ~np.isnan(points).any(axis=1))
    if len(whole) < _LEAST or not (x.high > x.low and y.high > y.low):
        return None
    if len(whole) > _MOST:
        whole = whole[np.linspace(0, len(whole) - 1, _MOST).astype(int)]
    return interpolated(points[whole], values[whole])


def interpolated(points: FloatArray, values: FloatArray) -> Surface | None:
    """Return weighted means of the values near each point of a grid over the unit square.

    Weights are Gaussian (Nadaraya-Watson regression); their width is the one with the least leave-one-out error.

    Args:
        points: (N, 2) in the unit square.
        values: (N,) without NaN.
    Returns:
        None where no width predicts clearly better than the mean of the other values.
    """
    n = len(values)
    plain = float(np.mean((values - (values.sum() - values) / max(n - 1, 1)) ** 2))
    errors = [float(np.mean((values - _leave_one_out(points, values, width)) ** 2)) for width in _WIDTHS]
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


def _leave_one_out(points: FloatArray, values: FloatArray, width: float) -> FloatArray:
    """Return each value as predicted from the others; their mean where none is near."""
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
    across = x.intervals(search.positions(x), _GRID)
    up = y.intervals(search.positions(y), _GRID)
    cells = []
    for i, right in enumerate(across):
        for j, above in enumerate(up):
            rows = set(right.rows) & set(above.rows)
            counts = (len(rows & valued), len(rows - valued))
            value = known(surface.values[j, i])
            cells.append(_cell(search.metrics[metric], "surface", (x, right), (y, above), value, counts))
    return cells


def draw_pair(search: SearchRecord, index: int, pair: Pair) -> Figure:
    """Draw cells over two keys colored by the metric, with the configs as points where both are ranges."""
    metric = search.metrics[index]
    figure = new_figure(7.4, 2.0 + 0.44 * max(len(groups_of(search, pair.y)), 6))
    ax = figure.add_subplot()
    both = f"{metric_name(metric)} over {marks.key_name(pair.x.key)} and {marks.key_name(pair.y.key)}"
    dress(ax, title=marked(both, metric), x=pair.x.key, y=pair.y.key)
    values = search.values(index)
    table, scale = marks.colors_of(values, search.sign[index])
    if pair.x.choices or pair.y.choices:
        _draw_cells(ax, search, pair, table, scale)
        _mark_cells(ax, search, index, pair)
    else:
        _draw_surface(ax, search, index, pair, (table, scale))
    bar = figure.colorbar(ScalarMappable(scale, table), ax=ax, pad=0.02, extend=_extended(values, search.sign[index]))
    bar.set_label(metric_name(metric), fontsize=TEXT_PT, color=INK)
    bar.ax.tick_params(labelsize=SMALL_PT, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _extended(values: FloatArray, sign: float) -> str:
    if not marks.out_of_range(values, sign).any():
        return "neither"
    return "min" if sign > 0 else "max"


def _draw_cells(ax: Any, search: SearchRecord, pair: Pair, table: Any, scale: Any) -> None:
    """Draw a table: color and first line of a cell are its median, the second its numbers of configs."""
    across, up = groups_of(search, pair.x), groups_of(search, pair.y)
    for index, cell in enumerate(pair.cells):
        i, j = divmod(index, len(up))
        color = table(scale(cell["value"])) if cell["n"] else "#f3f4f6"
        ax.fill([i - 0.49, i + 0.49, i + 0.49, i - 0.49], [j - 0.48, j - 0.48, j + 0.48, j + 0.48], color=color, lw=0)
        dark = cell["n"] and np.dot(color[:3], (0.3, 0.6, 0.1)) < 0.55
        ax.text(i, j, _cell_text(cell), ha="center", va="center", fontsize=SMALL_PT, color="white" if dark else INK)
    ax.set_xticks(range(len(across)), [group.text.replace(" to ", "\nto ") for group in across])
    ax.set_yticks(range(len(up)), [marks.shorten(group.text) for group in up])
    ax.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
    ax.grid(visible=False)


def _cell_text(cell: TableRow) -> str:
    if not cell["n"]:
        return f"{cell['n_other']} without" if cell["n_other"] else ""
    return f"{metric_value_text(cell['value'])}\nn={cell['n']}" + (f" (+{cell['n_other']})" if cell["n_other"] else "")


def _mark_cells(ax: Any, search: SearchRecord, index: int, pair: Pair) -> None:
    """Mark the cells of the best config and of the default in their upper corners."""
    across, up = groups_of(search, pair.x), groups_of(search, pair.y)
    handles = []
    for name, row, shift, style in _chosen(search, index, (-0.38, 0.38)):
        for i, j in itertools.product(range(len(across)), range(len(up))):
            if row in across[i].rows and row in up[j].rows:
                ax.plot(
                    i + shift,
                    j + 0.26,
                    linestyle="none",
                    zorder=5,
                    **{**style, "markersize": 0.7 * style["markersize"]},
                )
                handles.append(mark_handle(f"cell of the {name}", **style))
    marks.legend_below(ax.figure, handles)


def _chosen(
    search: SearchRecord, index: int, shifts: tuple[float, float]
) -> list[tuple[str, int, float, dict[str, Any]]]:
    """Return name, row, horizontal shift and mark of the default config and of the best, if they have a value."""
    values = search.values(index)
    rows = (search.row_of(0), running_best(values, search.sign[index])[-1])
    found = zip(("default config", "best config"), rows, shifts, (_DEFAULT_MARK, _BEST_MARK), strict=True)
    return [
        (name, row, shift, style) for name, row, shift, style in found if row is not None and not np.isnan(values[row])
    ]


def _draw_surface(ax: Any, search: SearchRecord, index: int, pair: Pair, colors: tuple[Any, Any]) -> None:
    table, scale = colors
    values, x, y = search.values(index), search.positions(pair.x), search.positions(pair.y)
    if pair.cells:
        n = round(len(pair.cells) ** 0.5)
        smooth = np.array([np.nan if cell["value"] is None else cell["value"] for cell in pair.cells]).reshape(n, n).T
        edges = (pair.x.edges(n), pair.y.edges(n))
        ax.pcolormesh(*edges, smooth, cmap=table, norm=scale, linewidth=0, rasterized=True, zorder=1)
    for axis, side in ((pair.x, "x"), (pair.y, "y")):
        marks.dress_axis(ax, axis, side, wide=True)
    known = ~np.isnan(values)
    ax.scatter(
        *(x[known], y[known]),
        c=values[known],
        cmap=table,
        norm=scale,
        s=30,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
    )
    handles = []
    for state in (ConfigState.PRUNED, ConfigState.FAILED):
        rows = ~known & (np.array(search.states) == state)
        if rows.any():
            ax.plot(x[rows], y[rows], linestyle="none", markersize=5, zorder=2, **STATE_MARKS[state])
            handles.append(mark_handle(f"{state}, no value", **STATE_MARKS[state]))
    for name, row, _, style in _chosen(search, index, (0.0, 0.0)):
        if not np.isnan(x[row] + y[row]):
            ax.plot(x[row], y[row], linestyle="none", zorder=5, **style)
            handles.append(mark_handle(name, **style))
    marks.legend_below(ax.figure, handles)


_BEST_MARK: dict[str, Any] = {"marker": "*", "color": BEST_COLOR, "markeredgecolor": INK, "markersize": 13}
_DEFAULT_MARK: dict[str, Any] = {"marker": "D", "color": "white", "markeredgecolor": DEFAULT_COLOR, "markersize": 7}


def surface_note(pair: Pair) -> str:
    """Return what the colors between the points mean, and how well they predict."""
    if not (pair.x.choices or pair.y.choices) and np.isnan(pair.skill):
        return "Not interpolated: these two keys hardly predict a config's value from the others."
    if np.isnan(pair.skill):
        return (
            "Each cell has the median over its configs and their number, in brackets that of configs without a value."
        )
    return (
        f"Between the points: a weighted mean of nearby configs; it predicts {100 * pair.skill:.0f}% of the variance "
        "of configs that are left out one at a time. Blank: no config is near."
    )


def draw_pareto(search: SearchRecord) -> Figure:
    """Draw each pair of metrics against each other; the Pareto set is joined by a line."""
    pairs = list(itertools.combinations(range(len(search.metrics)), 2))
    values = all_values(search)
    front = pareto_rows(values, search.sign)
    figure = new_figure(5.8 * len(pairs), 4.9)
    for ax, (i, j) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _draw_front(ax, search, values, front, (i, j))
    handles = [
        mark_handle("config", marker="o", color=DONE_COLOR),
        mark_handle("Pareto set: no other config beats it", marker="o", color=BEST_COLOR, markeredgecolor=INK),
        mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT_COLOR),
    ]
    marks.legend_below(figure, handles)
    return figure


def _draw_front(ax: Any, search: SearchRecord, values: FloatArray, front: Sequence[int], pair: tuple[int, int]) -> None:
    i, j = pair
    names = [search.metrics[index] for index in pair]
    title = next((marked("Pareto set", name) for name in names if name.startswith("oracle/")), "Pareto set")
    dress(ax, title=title, x=_with_direction(search, i), y=_with_direction(search, j))
    ax.scatter(values[:, i], values[:, j], color=DONE_COLOR, zorder=2, **marks.edge_of(len(values)))
    if len(search.metrics) == 2:
        # the step passes through the corner that no config of the front reaches
        where = "post" if search.sign[i] < 0 else "pre"
        ax.step(values[front, i], values[front, j], where=where, color=BEST_COLOR, linewidth=1.3, zorder=3)
    ax.scatter(values[front, i], values[front, j], color=BEST_COLOR, edgecolors=INK, linewidths=0.6, s=52, zorder=4)
    ax.margins(0.08)
    default = search.row_of(0)
    if default is not None and not np.isnan(values[default]).any():
        ax.scatter(*values[default, [i, j]], marker="D", facecolors="white", edgecolors=DEFAULT_COLOR, s=46, zorder=5)
    # numbers of at most ten configs, evenly along the front: more would overlap
    numbered = sorted({round(index) for index in np.linspace(0, len(front) - 1, min(10, len(front)))})
    for row in (front[index] for index in numbered):
        ax.annotate(
            str(search.numbers[row]),
            values[row, [i, j]],
            (7 * search.sign[i], 7 * search.sign[j]),
            textcoords="offset points",
            ha="left" if search.sign[i] > 0 else "right",
            va="bottom" if search.sign[j] > 0 else "top",
            fontsize=SMALL_PT,
            zorder=6,
        )


def _with_direction(search: SearchRecord, index: int) -> str:
    return f"{metric_name(search.metrics[index])} ({'higher' if search.sign[index] > 0 else 'lower'} is better)"
