"""The plot of all searched keys together, in parallel coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.figures.style import FAINT_INK, INK, SMALL_PT, TEXT_PT, new_figure
from fcdd_sweep.report.search import marks
from fcdd_sweep.report.search.axes import PlotAxis
from fcdd_sweep.report.search.marks import BEST_COLOR, DEFAULT_COLOR, marked, metric_name
from fcdd_sweep.report.search.numbers import by_relevance, running_best
from fcdd_sweep.report.search.record import SearchRecord

_MOST_KEYS = 8
"""Most keys that get an axis."""
_UNSET = -0.13
"""Height of configs without a position on an axis: the key is absent, or the config has no value."""
_MOST_VECTOR = 1000
"""Most lines that a figure holds as vectors; more are rasterized."""


def draw_parallel(search: SearchRecord, index: int) -> Figure:
    """Draw one line per config over the (eight most important) keys to its value; best and default are highlighted."""
    axes = by_relevance(search)[:_MOST_KEYS][::-1]
    values, sign = search.values(index), search.sign[index]
    low, high = marks.shown_range(values, sign)
    value_axis = PlotAxis(search.metrics[index], low=low, high=high)
    heights = np.stack(
        [axis.unit(search.positions(axis)) for axis in axes] + [value_axis.unit(np.clip(values, low, high))], axis=1
    )
    figure = new_figure(max(5.6, 1.35 * heights.shape[1] + 1.0), 4.4)
    ax = figure.add_subplot()
    ax.set_title(
        marked("All keys together", search.metrics[index]), fontsize=TEXT_PT + 1.5, color=INK, loc="left", pad=30
    )
    _draw_lines(ax, search, index, heights)
    for x, axis in enumerate([*axes, value_axis]):
        _draw_vertical_axis(ax, x, axis, is_value=axis is value_axis, unset=bool(np.isnan(heights[:, x]).any()))
    ax.set(xlim=(-0.4, heights.shape[1] - 0.55), ylim=(_UNSET - 0.1, 1.06))
    marks.hide_frame(ax)
    marks.legend_below(figure, _parallel_legend(search, values))
    return figure


def _draw_lines(ax: Any, search: SearchRecord, index: int, heights: FloatArray) -> None:
    values = search.values(index)
    table, scale = marks.colors_of(values, search.sign[index])
    x = np.arange(heights.shape[1])
    lines = np.where(np.isnan(heights), _UNSET, heights)
    many = len(values) > 60
    order = np.argsort(np.nan_to_num(search.sign[index] * values, nan=-np.inf))
    for row in order:
        plain = np.isnan(values[row])
        ax.plot(
            x,
            lines[row],
            color=FAINT_INK if plain else table(scale(values[row])),
            alpha=0.25 if plain else 0.45 if many else 0.75,
            linewidth=0.7 if plain else 0.9 if many else 1.3,
            zorder=1 if plain else 2,
            rasterized=len(values) > _MOST_VECTOR,
        )
    best, default = running_best(values, search.sign[index])[-1], search.row_of(0)
    if default is not None:
        ax.plot(x, lines[default], color=DEFAULT_COLOR, linewidth=1.6, linestyle=(0, (4, 2)), zorder=3)
    if best is not None:
        ax.plot(x, lines[best], color=BEST_COLOR, linewidth=2.6, zorder=4)


def _draw_vertical_axis(ax: Any, x: int, axis: PlotAxis, *, is_value: bool, unset: bool) -> None:
    """Draw a vertical axis with its ticks, and the key above it in two lines."""
    ax.plot([x, x], [0, 1], color=INK, linewidth=0.9, zorder=5)
    section, _, own = axis.key.rpartition(".")
    name = metric_name(own).replace(" image", "\nimage", 1) if is_value else "\n".join(filter(None, [section, own]))
    ax.text(x, 1.05, name, ha="center", va="bottom", fontsize=SMALL_PT, color=INK, fontweight="bold")
    for height, text in _ticks(axis, value=is_value):
        ax.plot(
            [x - 0.03, x],
            [height, height],
            color=INK,
            linewidth=0.8,
            zorder=5,
        )
        ax.text(x - 0.05, height, text, ha="right", va="center", fontsize=SMALL_PT, color=INK, zorder=6, bbox=_PLATE)
    if unset:
        text = "no value" if is_value else "not set"
        ax.text(x, _UNSET - 0.03, text, ha="center", va="top", fontsize=SMALL_PT, color=FAINT_INK)


_PLATE = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6}


def _ticks(axis: PlotAxis, *, value: bool) -> list[tuple[float, str]]:
    if axis.choices:
        step = -(-len(axis.choices) // 10)
        shown = np.arange(0, len(axis.choices), step)
        heights = axis.unit(shown.astype(float))
        return [(h, marks.shorten(axis.choices[i], 12)) for h, i in zip(heights, shown, strict=True)]
    if not axis.high > axis.low:
        return [] if np.isnan(axis.low) else [(0.5, f"{axis.low:g}")]
    if axis.log:
        ticks = marks.log_ticks(axis.low, axis.high, wide=True)
    else:
        inner = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(axis.low, axis.high)
        ticks = [tick for tick in inner if axis.low <= tick <= axis.high]
    heights = axis.unit(np.array(ticks))
    return [(h, f"{tick:.4g}") for h, tick in zip(heights, ticks, strict=True)]


def _parallel_legend(search: SearchRecord, values: FloatArray) -> list[Any]:
    handles = []
    if not np.isnan(values).all():
        handles += [
            Line2D([], [], color=BEST_COLOR, linewidth=2.6, label="best"),
            Line2D([], [], color="#2a4d7a", label="others: the better, the stronger"),
        ]
    if 0 in search.numbers:
        handles.append(Line2D([], [], color=DEFAULT_COLOR, linestyle=(0, (4, 2)), label="default config"))
    if np.isnan(values).any():
        handles.append(Line2D([], [], color=FAINT_INK, alpha=0.5, label="configs without a value"))
    return handles
