"""Plots of a search: values in the order of suggestions, importance, single keys, levels of a key, pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.figures.style import FAINT_INK, INK, SMALL_PT, TEXT_PT, dress, new_figure
from fcdd_sweep.report.search import marks
from fcdd_sweep.report.search.axes import PlotAxis
from fcdd_sweep.report.search.marks import (
    BEST_COLOR,
    DEFAULT_COLOR,
    DONE_COLOR,
    STATE_MARKS,
    mark_handle,
    marked,
    metric_name,
)
from fcdd_sweep.report.search.numbers import LIMIT, TWO_SIDED, by_relevance, running_best
from fcdd_sweep.report.search.record import SearchRecord
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.files import TableRow

_COLUMNS = 3


def draw_optimization(search: SearchRecord) -> Figure:
    """Draw values in the order of suggestions with the best so far, one plot per metric; below, configs without any."""
    without = [state for state in STATE_MARKS if state in search.states]
    count = len(search.metrics)
    plot = 3.2 if any(not np.isnan(search.values(index)).all() for index in range(count)) else 0.7
    heights = [plot] * count + ([0.32 * len(without) + 0.25] if without else [])
    figure = new_figure(7.4, sum(heights) + 1.1)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for index in range(count):
        _draw_values(axes[index], search, index)
    if without:
        _draw_states(axes[-1], search, without)
    axes[-1].set_xlabel("config, in the order of suggestions", fontsize=TEXT_PT, color=INK)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[-1].set_xlim(search.numbers[0] - 0.6, search.numbers[-1] + 0.6 + 0.02 * len(search.numbers))
    marks.legend_below(figure, _values_legend(search))
    return figure


def _draw_values(ax: Any, search: SearchRecord, index: int) -> None:
    values, sign, numbers = search.values(index), search.sign[index], np.array(search.numbers)
    name = metric_name(search.metrics[index])
    title = f"Course of the search: {name}" if len(search.metrics) > 1 else "Course of the search"
    dress(ax, title=marked(title, search.metrics[index]), x="", y=name)
    if np.isnan(values).all():
        _write(ax, f"no config has a value: {marks.counts_of_states(search)}")
        return
    errors = TWO_SIDED * search.errors(index)
    shown = marks.limit_values(ax, values, errors, sign)
    beyond = marks.out_of_range(values, sign)
    inside = ~np.isnan(values) & ~beyond
    many = len(values) > 60
    bars = inside & ~np.isnan(errors)
    ax.errorbar(
        numbers[bars],
        values[bars],
        errors[bars],
        fmt="none",
        ecolor=DONE_COLOR,
        alpha=0.25 if many else 0.5,
        elinewidth=0.7 if many else 1.1,
        zorder=1,
    )
    ax.scatter(numbers[inside], values[inside], color=DONE_COLOR, zorder=2, **marks.edge_of(len(values)))
    if beyond.any():
        ax.scatter(
            numbers[beyond], shown[beyond], marker=7 if sign > 0 else 6, color=DONE_COLOR, s=30, zorder=2, clip_on=False
        )
    best = running_best(values, sign)
    line = [np.nan if row is None else values[row] for row in best]
    ax.step(numbers, line, where="post", color=BEST_COLOR, linewidth=1.6, zorder=3)
    _draw_chosen(ax, search, shown, best[-1])


def _draw_chosen(ax: Any, search: SearchRecord, shown: FloatArray, best: int | None) -> None:
    default = search.row_of(0)
    numbers = search.numbers
    if best is not None:
        ax.scatter(
            numbers[best], shown[best], marker="*", color=BEST_COLOR, edgecolors=INK, linewidths=0.6, s=170, zorder=5
        )
    if default is not None and not np.isnan(shown[default]):
        ax.scatter(
            numbers[default], shown[default], marker="D", facecolors="white", edgecolors=DEFAULT_COLOR, s=46, zorder=4
        )
        ax.axhline(shown[default], color=DEFAULT_COLOR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)


def _draw_states(ax: Any, search: SearchRecord, states: Sequence[ConfigState]) -> None:
    dress(ax, title="", x="", y="")
    for height, state in enumerate(reversed(states)):
        numbers = [number for number, own in zip(search.numbers, search.states, strict=True) if own == state]
        ax.plot(numbers, [height] * len(numbers), linestyle="none", markersize=5.5, **STATE_MARKS[state])
    ax.set_yticks(range(len(states)), list(reversed(states)))
    ax.set_ylim(-0.6, len(states) - 0.4)
    ax.set_title("without a value", fontsize=SMALL_PT, color=FAINT_INK, loc="left")
    marks.no_grid(ax, "y")


def _values_legend(search: SearchRecord) -> list[Any]:
    if all(np.isnan(search.values(index)).all() for index in range(len(search.metrics))):
        return []
    handles: list[Any] = [mark_handle("value of a config", marker="o", color=DONE_COLOR)]
    if not np.isnan(search.errors()).all():
        handles.append(Line2D([], [], color=DONE_COLOR, alpha=0.5, label="95% by the noise of the images"))
    handles.append(Line2D([], [], color=BEST_COLOR, linewidth=1.6, label="best so far"))
    handles.append(mark_handle("best", marker="*", color=BEST_COLOR, markeredgecolor=INK, markersize=11))
    default = search.row_of(0)
    if default is not None and not np.isnan(search.values()[default]):
        handles.append(mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT_COLOR))
    beyond = sum(int(marks.out_of_range(search.values(i), search.sign[i]).sum()) for i in range(len(search.metrics)))
    if beyond:
        up = search.sign[0] < 0
        handles.append(mark_handle(f"{beyond} far worse, at the edge", marker=6 if up else 7, color=DONE_COLOR))
    return handles


def _write(ax: Any, text: str) -> None:
    """Write a sentence in place of a plot."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=TEXT_PT, color=FAINT_INK)
    ax.set_axis_off()


def draw_importance(search: SearchRecord) -> Figure:
    """Draw one bar per key, the most important on top."""
    keys = list(search.importance)[::-1]
    shares = [search.importance[key] for key in keys]
    figure = new_figure(7.4, 1.3 + 0.36 * len(keys))
    ax = figure.add_subplot()
    title = marked("What explains the metric over the space", search.metrics[0])
    dress(ax, title=title, x="share of the variance (Optuna's estimate)", y="")
    ax.barh(range(len(keys)), shares, color=DONE_COLOR, height=0.62)
    for height, share in enumerate(shares):
        ax.annotate(f"{share:.2f}", (share, height), (4, 0), textcoords="offset points", va="center", fontsize=SMALL_PT)
    ax.set_yticks(range(len(keys)), keys)
    ax.set_xlim(0, 1.12 * max([*shares, 1e-9]))
    marks.no_grid(ax, "y")
    return figure


def draw_slices(search: SearchRecord, index: int) -> Figure:
    """Draw the metric over each single key, the most important first; configs without a value at the lower edge."""
    axes = by_relevance(search)
    columns = 2 if len(axes) == 4 else min(_COLUMNS, len(axes))
    rows = -(-len(axes) // columns)
    figure = new_figure(max(2.7 * columns, 4.6), 2.6 * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, axis in zip(grid.flat, axes, strict=False):
        _draw_slice(ax, search, index, axis)
    for ax in grid.flat[len(axes) :]:
        ax.remove()
    for ax in grid[:, 0]:
        ax.set_ylabel(metric_name(search.metrics[index]), fontsize=TEXT_PT, color=INK)
    title = marked("Each searched key alone", search.metrics[index])
    figure.suptitle(title, fontsize=TEXT_PT + 1.5, color=INK, x=0.02, ha="left")
    marks.legend_below(figure, _slice_legend(search, index))
    return figure


def _draw_slice(ax: Any, search: SearchRecord, index: int, axis: PlotAxis) -> None:
    values, sign = search.values(index), search.sign[index]
    positions = search.positions(axis)
    dress(ax, title="", x=axis.key, y="")
    marks.dress_axis(ax, axis)
    shown = marks.limit_values(ax, values, np.full(len(values), np.nan), sign)
    spread = positions + (_jitter(len(positions)) if axis.choices else 0.0)
    is_set = ~np.isnan(positions)
    with_value = is_set & ~np.isnan(values)
    ax.scatter(spread[with_value], shown[with_value], color=DONE_COLOR, zorder=2, **marks.edge_of(len(values)))
    bottom = ax.get_ylim()[0]
    for state in (ConfigState.PRUNED, ConfigState.FAILED):
        rows = is_set & np.isnan(values) & (np.array(search.states) == state)
        if not rows.any():
            continue  # an empty line that is not clipped counts as one point in the layout's corner
        ax.plot(
            spread[rows],
            np.full(rows.sum(), bottom),
            linestyle="none",
            markersize=5 if len(rows) < 60 else 3.5,
            alpha=0.7,
            clip_on=False,
            **STATE_MARKS[state],
        )
    best = running_best(values, sign)[-1] if len(values) else None
    for row, style in ((search.row_of(0), _DEFAULT_POINT), (best, _BEST_POINT)):
        if row is not None and with_value[row]:
            ax.scatter(spread[row], shown[row], **style)
    if not is_set.all():
        note = f"set in {is_set.sum()} of {len(is_set)} configs"
        ax.set_title(note, fontsize=SMALL_PT, color=FAINT_INK, loc="left")


_DEFAULT_POINT: dict[str, Any] = {
    "marker": "D",
    "facecolors": "white",
    "edgecolors": DEFAULT_COLOR,
    "s": 36,
    "zorder": 4,
}
_BEST_POINT: dict[str, Any] = {
    **{"marker": "*", "color": BEST_COLOR, "edgecolors": INK},
    **{"linewidths": 0.6, "s": 130, "zorder": 5},
}


def _jitter(n: int) -> FloatArray:
    """Return small shifts in [-0.18, 0.18] that separate equal choices, the same every time."""
    shifts: FloatArray = (np.arange(n, dtype=np.float64) * 0.618034) % 1.0 - 0.5
    return 0.36 * shifts


def _slice_legend(search: SearchRecord, index: int) -> list[Any]:
    handles = [mark_handle("config", marker="o", color=DONE_COLOR)]
    if not np.isnan(search.values(index)).all():
        handles.append(mark_handle("best", marker="*", color=BEST_COLOR, markeredgecolor=INK, markersize=11))
    if 0 in search.numbers:
        handles.append(mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT_COLOR))
    for state in (ConfigState.PRUNED, ConfigState.FAILED):
        if state in search.states:
            handles.append(mark_handle(f"{state}, no value", **STATE_MARKS[state]))
    if marks.out_of_range(search.values(index), search.sign[index]).any():
        handles.append(mark_handle("points on the edge: far worse", marker="o", color=DONE_COLOR, markersize=4))
    return handles


def draw_levels(levels: Sequence[TableRow], metric: str, *, key: str = LIMIT) -> Figure:
    """Draw best and median of the configs at each level of a key, with the number of configs.

    Args:
        levels: rows of `levels.parquet` of one metric and key, in the order of the axis.
    """
    figure = new_figure(max(5.6, 0.62 * len(levels) + 2.0), 4.2)
    ax = figure.add_subplot()
    dress(ax, title=marked(f"{metric_name(metric)} by {key}", metric), x=key, y=metric_name(metric))
    x = np.arange(len(levels), dtype=float)
    best, error, median, low, high = (
        np.array([np.nan if row[name] is None else row[name] for row in levels], np.float64)
        for name in ("best", "best_std_error", "median", "low", "high")
    )
    ax.fill_between(x, low, high, color=DONE_COLOR, alpha=0.16, linewidth=0, label="middle half of the configs")
    ax.plot(x, median, color=DONE_COLOR, marker="o", markersize=4.5, linewidth=1.3, label="median of the configs")
    ax.errorbar(
        *(x, best, np.nan_to_num(TWO_SIDED * error)),
        color=BEST_COLOR,
        marker="*",
        markersize=10,
        markeredgecolor=INK,
        markeredgewidth=0.5,
        linewidth=1.6,
        elinewidth=1.2,
        capsize=3,
        label="best config" if np.isnan(error).all() else "best config, 95% by the noise of the images",
    )
    ax.set_xticks(x, [f"{marks.shorten(row['level'])}\n{_count(row)}" for row in levels])
    ax.set_xlim(-0.5, len(levels) - 0.5)
    marks.legend_below(figure, ax.get_legend_handles_labels()[0])
    return figure


def _count(row: TableRow) -> str:
    return f"n={row['n']}" + (f" (+{row['n_other']})" if row["n_other"] else "")


def draw_pruning(search: SearchRecord) -> Figure:
    """Draw the epochs that each config trained and, where the study kept it, the metric at the compared epochs."""
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
        if state not in (ConfigState.DONE, ConfigState.PRUNED):
            continue
        style: dict[str, Any] = {"color": DONE_COLOR, "alpha": 0.35 if many else 0.7, "linewidth": 0.9, "zorder": 2}
        if state == ConfigState.PRUNED:
            style = {
                **STATE_MARKS[ConfigState.PRUNED],
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
        color = DONE_COLOR if state == ConfigState.DONE else STATE_MARKS[ConfigState(state)]["color"]
        ax.bar(
            number,
            row["epochs_trained"] or 0,
            width=0.8 if len(search.configs) < 60 else 1.0,
            color=color,
            linewidth=0,
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    marks.no_grid(ax, "x")
