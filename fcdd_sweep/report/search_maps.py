"""Plots of a search, second part: two keys together, all keys together, two metrics, and pruning."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report import search_marks as marks
from fcdd_sweep.report.records import Row
from fcdd_sweep.report.search import Search
from fcdd_sweep.report.search_axes import Axis
from fcdd_sweep.report.search_marks import (
    BEST,
    DEFAULT,
    DONE,
    STATE_MARKS,
    mark_handle,
    marked,
    metric_name,
    value_text,
)
from fcdd_sweep.report.search_numbers import all_values, pareto_rows, running_best
from fcdd_sweep.report.search_pair import Pair, by_relevance, groups_of
from fcdd_sweep.report.style import FAINT, INK, SMALL_PT, TEXT_PT, dress, new_figure

_MOST_KEYS = 8
"""Axes of the parallel coordinates beside the metric's."""
_UNSET = -0.13
"""Height of what has no place on an axis: an absent key, a config without a value."""
_MOST_VECTOR = 1000
"""Lines beyond which a picture holds them as pixels."""


def draw_pair(search: Search, index: int, pair: Pair) -> Figure:
    """Cells over two keys coloured by the metric, with the configs as points where both are ranges."""
    metric = search.metrics[index]
    figure = new_figure(7.0, 1.9 + 0.4 * max(len(groups_of(search, pair.y)), 6))
    ax = figure.add_subplot()
    both = f"{metric_name(metric)} over {marks.key_name(pair.x.key)} and {marks.key_name(pair.y.key)}"
    dress(ax, title=marked(both, metric), x=pair.x.key, y=pair.y.key)
    values = search.values(index)
    table, scale = marks.colours_of(values, search.sign[index])
    if pair.x.choices or pair.y.choices:
        _draw_cells(ax, search, pair, table, scale)
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


def _draw_cells(ax: Any, search: Search, pair: Pair, table: Any, scale: Any) -> None:
    """A table: colour and first line are the cell's median, below it the number of its configs."""
    across, up = groups_of(search, pair.x), groups_of(search, pair.y)
    for place, cell in enumerate(pair.cells):
        i, j = divmod(place, len(up))
        colour = table(scale(cell["value"])) if cell["n"] else "#f3f4f6"
        ax.fill([i - 0.49, i + 0.49, i + 0.49, i - 0.49], [j - 0.48, j - 0.48, j + 0.48, j + 0.48], color=colour, lw=0)
        text = f"{value_text(cell['value'])}  n={cell['n']}" if cell["n"] else "n=0"
        dark = cell["n"] and np.dot(colour[:3], (0.3, 0.6, 0.1)) < 0.55
        ax.text(i, j, text, ha="center", va="center", fontsize=SMALL_PT, color="white" if dark else INK)
    ax.set_xticks(range(len(across)), [group.text.replace(" to ", "\nto ") for group in across])
    ax.set_yticks(range(len(up)), [marks.shortened(group.text) for group in up])
    ax.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
    ax.grid(visible=False)


def _draw_surface(ax: Any, search: Search, index: int, pair: Pair, colours: tuple[Any, Any]) -> None:
    table, scale = colours
    values, x, y = search.values(index), search.places(pair.x), search.places(pair.y)
    if pair.cells:
        n = round(len(pair.cells) ** 0.5)
        smooth = np.array([np.nan if cell["value"] is None else cell["value"] for cell in pair.cells]).reshape(n, n).T
        edges = (pair.x.edges(n), pair.y.edges(n))
        ax.pcolormesh(*edges, smooth, cmap=table, norm=scale, alpha=0.75, linewidth=0, rasterized=True, zorder=1)
    for axis, side in ((pair.x, "x"), (pair.y, "y")):
        marks.dress_axis(ax, axis, side)
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
    for state in ("pruned", "failed"):
        rows = ~known & (np.array(search.states) == state)
        if rows.any():
            ax.plot(x[rows], y[rows], linestyle="none", markersize=5, zorder=2, **STATE_MARKS[state])
            handles.append(mark_handle(f"{state}, no value", **STATE_MARKS[state]))
    best = running_best(values, search.sign[index])[-1]
    for row, name, style in ((search.row_of(0), "default config", _DEFAULT_MARK), (best, "best", _BEST_MARK)):
        if row is not None and known[row] and not np.isnan(x[row] + y[row]):
            ax.plot(x[row], y[row], linestyle="none", zorder=5, **style)
            handles.append(mark_handle(name, **style))
    marks.legend_below(ax.figure, handles)


_BEST_MARK: dict[str, Any] = {"marker": "*", "color": BEST, "markeredgecolor": INK, "markersize": 13}
_DEFAULT_MARK: dict[str, Any] = {"marker": "D", "color": "white", "markeredgecolor": DEFAULT, "markersize": 7}


def surface_note(pair: Pair) -> str:
    """What the ground between the points is worth."""
    if not (pair.x.choices or pair.y.choices) and np.isnan(pair.skill):
        return "No ground is drawn: these two keys do not predict a config's value better than the mean of the others."
    if np.isnan(pair.skill):
        return "Cells: the median over their configs, and how many have a value."
    return (
        f"Between the points: a weighted mean of configs near by. Left out one at a time, {100 * pair.skill:.0f}% of "
        "the configs' variance is predicted by the others. White: no config is near."
    )


def draw_parallel(search: Search, index: int) -> Figure:
    """A line a config over all keys (the eight most important) to its value; the best and the default stand out."""
    axes = by_relevance(search)[:_MOST_KEYS][::-1]
    values, sign = search.values(index), search.sign[index]
    low, high = marks.shown_range(values, sign)
    value_axis = Axis(search.metrics[index], low=low, high=high)
    heights = np.stack(
        [axis.unit(search.places(axis)) for axis in axes] + [value_axis.unit(np.clip(values, low, high))], axis=1
    )
    figure = new_figure(max(5.6, 1.35 * heights.shape[1] + 1.0), 4.4)
    ax = figure.add_subplot()
    ax.set_title(
        marked("All keys together", search.metrics[index]), fontsize=TEXT_PT + 1.5, color=INK, loc="left", pad=30
    )
    _draw_lines(ax, search, index, heights)
    for place, axis in enumerate([*axes, value_axis]):
        _draw_own_axis(ax, place, axis, unset=bool(np.isnan(heights[:, place]).any()))
    ax.set(xlim=(-0.4, heights.shape[1] - 0.55), ylim=(_UNSET - 0.1, 1.06))
    marks.bare(ax)
    marks.legend_below(figure, _parallel_legend(search, values))
    return figure


def _draw_lines(ax: Any, search: Search, index: int, heights: FloatArray) -> None:
    values = search.values(index)
    table, scale = marks.colours_of(values, search.sign[index])
    x = np.arange(heights.shape[1])
    lines = np.where(np.isnan(heights), _UNSET, heights)
    many = len(values) > 60
    order = np.argsort(np.nan_to_num(search.sign[index] * values, nan=-np.inf))
    for row in order:
        plain = np.isnan(values[row])
        ax.plot(
            x,
            lines[row],
            color=FAINT if plain else table(scale(values[row])),
            alpha=0.25 if plain else 0.45 if many else 0.75,
            linewidth=0.7 if plain else 0.9 if many else 1.3,
            zorder=1 if plain else 2,
            rasterized=len(values) > _MOST_VECTOR,
        )
    best, default = running_best(values, search.sign[index])[-1], search.row_of(0)
    if default is not None:
        ax.plot(x, lines[default], color=DEFAULT, linewidth=1.6, linestyle=(0, (4, 2)), zorder=3)
    if best is not None:
        ax.plot(x, lines[best], color=BEST, linewidth=2.6, zorder=4)


def _draw_own_axis(ax: Any, place: int, axis: Axis, *, unset: bool) -> None:
    """An upright axis with its ticks, and the key above it in two lines."""
    ax.plot([place, place], [0, 1], color=INK, linewidth=0.9, zorder=5)
    section, _, own = axis.key.rpartition(".")
    is_value = "." not in axis.key
    name = metric_name(own).replace(" image", "\nimage", 1) if is_value else f"{section}.\n{own}"
    ax.text(place, 1.05, name, ha="center", va="bottom", fontsize=SMALL_PT, color=INK, fontweight="bold")
    for height, text in _ticks(axis, value=is_value):
        ax.plot([place - 0.03, place], [height, height], color=INK, linewidth=0.8, zorder=5)
        ax.text(
            place - 0.05, height, text, ha="right", va="center", fontsize=SMALL_PT, color=INK, zorder=6, bbox=_PLATE
        )
    if unset:
        text = "no value" if is_value else "not set"
        ax.text(place, _UNSET - 0.03, text, ha="center", va="top", fontsize=SMALL_PT, color=FAINT)


_PLATE = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6}


def _ticks(axis: Axis, *, value: bool) -> list[tuple[float, str]]:
    if axis.choices:
        step = -(-len(axis.choices) // 10)
        places = np.arange(0, len(axis.choices), step)
        heights = axis.unit(places.astype(float))
        return [(h, marks.shortened(axis.choices[i], 12)) for h, i in zip(heights, places, strict=True)]
    if not axis.high > axis.low:
        return [] if np.isnan(axis.low) else [(0.5, f"{axis.low:g}")]
    if axis.log:
        ticks = marks.log_ticks(axis.low, axis.high)
    else:
        inner = MaxNLocator(5).tick_values(axis.low, axis.high)
        ticks = [tick for tick in inner if axis.low <= tick <= axis.high]
    heights = axis.unit(np.array(ticks))
    return [(h, f"{tick:.4g}") for h, tick in zip(heights, ticks, strict=True)]


def _parallel_legend(search: Search, values: FloatArray) -> list[Any]:
    handles = []
    if not np.isnan(values).all():
        handles += [
            Line2D([], [], color=BEST, linewidth=2.6, label="best"),
            Line2D([], [], color="#2a4d7a", label="others: the better, the darker"),
        ]
    if 0 in search.numbers:
        handles.append(Line2D([], [], color=DEFAULT, linestyle=(0, (4, 2)), label="default config"))
    if np.isnan(values).any():
        handles.append(Line2D([], [], color=FAINT, alpha=0.5, label="configs without a value"))
    return handles


def draw_pareto(search: Search) -> Figure:
    """Each two metrics against each other; configs that no other beats in all metrics are joined."""
    pairs = list(itertools.combinations(range(len(search.metrics)), 2))
    values = all_values(search)
    front = pareto_rows(values, search.sign)
    figure = new_figure(5.8 * len(pairs), 4.9)
    for ax, (i, j) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _draw_front(ax, search, values, front, (i, j))
    handles = [
        mark_handle("config", marker="o", color=DONE),
        mark_handle("Pareto set: no config is better in all metrics", marker="o", color=BEST, markeredgecolor=INK),
        mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT),
    ]
    marks.legend_below(figure, handles)
    return figure


def _draw_front(ax: Any, search: Search, values: FloatArray, front: Sequence[int], pair: tuple[int, int]) -> None:
    i, j = pair
    names = [search.metrics[index] for index in pair]
    title = next((marked("Pareto set", name) for name in names if name.startswith("oracle/")), "Pareto set")
    dress(ax, title=title, x=_with_way(search, i), y=_with_way(search, j))
    ax.scatter(values[:, i], values[:, j], color=DONE, zorder=2, **marks.edge_of(len(values)))
    if len(search.metrics) == 2:
        # a step goes by the corner that no config of the front reaches
        where = "post" if search.sign[i] < 0 else "pre"
        ax.step(values[front, i], values[front, j], where=where, color=BEST, linewidth=1.3, zorder=3)
    ax.scatter(values[front, i], values[front, j], color=BEST, edgecolors=INK, linewidths=0.6, s=52, zorder=4)
    default = search.row_of(0)
    if default is not None and not np.isnan(values[default]).any():
        ax.scatter(*values[default, [i, j]], marker="D", facecolors="white", edgecolors=DEFAULT, s=46, zorder=5)
    # numbers of at most ten configs, evenly along the front: more would lie upon each other
    told = sorted({round(place) for place in np.linspace(0, len(front) - 1, min(10, len(front)))})
    for row in (front[place] for place in told):
        ax.annotate(
            str(search.numbers[row]),
            values[row, [i, j]],
            (5, 5),
            textcoords="offset points",
            fontsize=SMALL_PT,
            zorder=6,
        )


def _with_way(search: Search, index: int) -> str:
    return f"{metric_name(search.metrics[index])} ({'higher' if search.sign[index] > 0 else 'lower'} is better)"


def draw_pruning(search: Search) -> Figure:
    """How far each config came; where the study kept it, also the metric at the epochs of comparison."""
    with_curves = bool(search.rungs)
    figure = new_figure(7.4, 6.2 if with_curves else 3.4)
    grid = figure.subplots(2 if with_curves else 1, 1, squeeze=False)[:, 0]
    if with_curves:
        _draw_curves(grid[0], search)
    _draw_epochs(grid[-1], search)
    handles = [mark_handle("done", marker="s", color=DONE)]
    handles += [
        mark_handle(state, **{**STATE_MARKS[state], "marker": "s"}) for state in STATE_MARKS if state in search.states
    ]
    if with_curves and search.best is not None:
        handles.append(Line2D([], [], color=BEST, linewidth=2.2, label="best"))
    marks.legend_below(figure, handles, columns=6)
    return figure


def _draw_curves(ax: Any, search: Search) -> None:
    metric = search.metrics[0]
    dress(ax, title=marked("Where configs were compared", metric), x="epoch", y=metric_name(metric))
    by_number: dict[int, list[Row]] = {}
    for row in sorted(search.rungs, key=lambda row: row["epoch"]):
        by_number.setdefault(row["number"], []).append(row)
    many = len(by_number) > 60
    for number, rows in by_number.items():
        place = search.row_of(number)
        state = "done" if place is None else search.states[place]
        style: dict[str, Any] = {"color": DONE, "alpha": 0.35 if many else 0.7, "linewidth": 0.9, "zorder": 2}
        if state != "done":
            style = {
                **STATE_MARKS[state],
                "alpha": 0.8,
                "linewidth": 0.9,
                "markevery": [-1],
                "markersize": 5,
                "zorder": 3,
            }
        if number == search.best:
            style = {"color": BEST, "linewidth": 2.2, "zorder": 4}
        x, y = ([np.nan if row[name] is None else row[name] for row in rows] for name in ("epoch", "value"))
        ax.plot(x, y, **style)
    ax.set_xticks(sorted({row["epoch"] for row in search.rungs}))


def _draw_epochs(ax: Any, search: Search) -> None:
    dress(ax, title="Epochs trained", x="config, in the order of suggestions", y="epochs, all its trials")
    for number, state, row in zip(search.numbers, search.states, search.configs, strict=True):
        colour = DONE if state == "done" else STATE_MARKS[state]["color"]
        ax.bar(number, row["epochs_trained"] or 0, width=0.8, color=colour, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    marks.no_grid(ax, "x")
