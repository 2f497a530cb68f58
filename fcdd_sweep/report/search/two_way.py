"""Plots of a search, second part: two keys together, two metrics, and pruning."""

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
from fcdd_sweep.report.figures.style import INK, SMALL_PT, TEXT_PT, dress, new_figure
from fcdd_sweep.report.run_files import TableRow
from fcdd_sweep.report.search import marks
from fcdd_sweep.report.search.key_pair import Pair, groups_of
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
from fcdd_sweep.report.search.plot_data import all_values, pareto_rows, running_best
from fcdd_sweep.report.search.record import SearchRecord


def draw_pair(search: SearchRecord, index: int, pair: Pair) -> Figure:
    """Cells over two keys colored by the metric, with the configs as points where both are ranges."""
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
    """A table: color and first line are the cell's median, below it how many configs have a value and have none."""
    across, up = groups_of(search, pair.x), groups_of(search, pair.y)
    for place, cell in enumerate(pair.cells):
        i, j = divmod(place, len(up))
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
    """The cells of the best config and of the default, in their upper corners."""
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
    """Name, row, a shift of its own and mark of the default config and the best, those that have a value."""
    values = search.values(index)
    rows = (search.row_of(0), running_best(values, search.sign[index])[-1])
    found = zip(("default config", "best config"), rows, shifts, (_DEFAULT_MARK, _BEST_MARK), strict=True)
    return [(name, row, at, style) for name, row, at, style in found if row is not None and not np.isnan(values[row])]


def _draw_surface(ax: Any, search: SearchRecord, index: int, pair: Pair, colors: tuple[Any, Any]) -> None:
    table, scale = colors
    values, x, y = search.values(index), search.places(pair.x), search.places(pair.y)
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
    for state in ("pruned", "failed"):
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
    """What the ground between the points is worth."""
    if not (pair.x.choices or pair.y.choices) and np.isnan(pair.skill):
        return "No ground is drawn: these two keys hardly predict a config's value from the others."
    if np.isnan(pair.skill):
        return "Cells: the median over their configs, how many have a value, in brackets how many have none."
    return (
        f"Between the points: a weighted mean of configs near by. Left out one at a time, {100 * pair.skill:.0f}% of "
        "the configs' variance is predicted by the others. White: no config is near."
    )


def draw_pareto(search: SearchRecord) -> Figure:
    """Each two metrics against each other; configs that no other beats in all metrics are joined."""
    pairs = list(itertools.combinations(range(len(search.metrics)), 2))
    values = all_values(search)
    front = pareto_rows(values, search.sign)
    figure = new_figure(5.8 * len(pairs), 4.9)
    for ax, (i, j) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _draw_front(ax, search, values, front, (i, j))
    handles = [
        mark_handle("config", marker="o", color=DONE_COLOR),
        mark_handle("Pareto set: no config beats it in all metrics", marker="o", color=BEST_COLOR, markeredgecolor=INK),
        mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT_COLOR),
    ]
    marks.legend_below(figure, handles)
    return figure


def _draw_front(ax: Any, search: SearchRecord, values: FloatArray, front: Sequence[int], pair: tuple[int, int]) -> None:
    i, j = pair
    names = [search.metrics[index] for index in pair]
    title = next((marked("Pareto set", name) for name in names if name.startswith("oracle/")), "Pareto set")
    dress(ax, title=title, x=_with_way(search, i), y=_with_way(search, j))
    ax.scatter(values[:, i], values[:, j], color=DONE_COLOR, zorder=2, **marks.edge_of(len(values)))
    if len(search.metrics) == 2:
        # a step goes by the corner that no config of the front reaches
        where = "post" if search.sign[i] < 0 else "pre"
        ax.step(values[front, i], values[front, j], where=where, color=BEST_COLOR, linewidth=1.3, zorder=3)
    ax.scatter(values[front, i], values[front, j], color=BEST_COLOR, edgecolors=INK, linewidths=0.6, s=52, zorder=4)
    ax.margins(0.08)
    default = search.row_of(0)
    if default is not None and not np.isnan(values[default]).any():
        ax.scatter(*values[default, [i, j]], marker="D", facecolors="white", edgecolors=DEFAULT_COLOR, s=46, zorder=5)
    # numbers of at most ten configs, evenly along the front: more would lie upon each other
    told = sorted({round(place) for place in np.linspace(0, len(front) - 1, min(10, len(front)))})
    for row in (front[place] for place in told):
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


def _with_way(search: SearchRecord, index: int) -> str:
    return f"{metric_name(search.metrics[index])} ({'higher' if search.sign[index] > 0 else 'lower'} is better)"


def draw_pruning(search: SearchRecord) -> Figure:
    """How far each config came; where the study kept it, also the metric at the epochs of comparison."""
    with_curves = bool(search.rungs)
    figure = new_figure(7.4, 6.2 if with_curves else 3.4)
    grid = figure.subplots(2 if with_curves else 1, 1, squeeze=False)[:, 0]
    if with_curves:
        _draw_curves(grid[0], search)
    _draw_epochs(grid[-1], search)
    handles = [mark_handle("done", marker="s", color=DONE_COLOR)]
    handles += [
        mark_handle(state, **{**STATE_MARKS[state], "marker": "s"}) for state in STATE_MARKS if state in search.states
    ]
    if with_curves and search.best is not None:
        handles.append(Line2D([], [], color=BEST_COLOR, linewidth=2.2, label="best"))
    marks.legend_below(figure, handles)
    return figure


def _draw_curves(ax: Any, search: SearchRecord) -> None:
    metric = search.metrics[0]
    dress(ax, title=marked("Where configs were compared", metric), x="epoch", y=metric_name(metric))
    by_number: dict[int, list[TableRow]] = {}
    for row in sorted(search.rungs, key=lambda row: row["epoch"]):
        by_number.setdefault(row["number"], []).append(row)
    many = len(by_number) > 60
    states = dict(zip(search.numbers, search.states, strict=True))
    for number, rows in by_number.items():
        state = states.get(number)
        if state not in ("done", "pruned"):
            continue
        style: dict[str, Any] = {"color": DONE_COLOR, "alpha": 0.35 if many else 0.7, "linewidth": 0.9, "zorder": 2}
        if state == "pruned":
            style = {
                **STATE_MARKS[state],
                "alpha": 0.8,
                "linewidth": 0.9,
                "markevery": [-1],
                "markersize": 4 if many else 6,
                "zorder": 3,
            }
        if number == search.best:
            style = {"color": BEST_COLOR, "linewidth": 2.2, "zorder": 4}
        x, y = ([np.nan if row[name] is None else row[name] for row in rows] for name in ("epoch", "value"))
        ax.plot(x, y, **style)
    ax.set_xticks(sorted({row["epoch"] for row in search.rungs}))


def _draw_epochs(ax: Any, search: SearchRecord) -> None:
    dress(ax, title="Epochs trained", x="config, in the order of suggestions", y="epochs, all its trials")
    for number, state, row in zip(search.numbers, search.states, search.configs, strict=True):
        color = DONE_COLOR if state == "done" else STATE_MARKS[state]["color"]
        ax.bar(
            number,
            row["epochs_trained"] or 0,
            width=0.8 if len(search.configs) < 60 else 1.0,
            color=color,
            linewidth=0,
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    marks.no_grid(ax, "x")
