"""Parallel coordinates as SVG: one line per config over its settings to its metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.report.page.html import Markup, element
from fcdd_sweep.report.page.svg import fitted, number_text, stroke, svg, words
from fcdd_sweep.report.text import metric_text, setting_text

_STEP, _TOP, _TALL, _LEFT = 130, 40, 190, 70
_LOG_FROM = 20.0
"""Ratio of largest to smallest value from which on an axis of positive numbers is logarithmic."""
_MOST_TICKS = 8


@dataclass(frozen=True)
class _Axis:
    """Heights of all configs on one axis, 0 to 1 and NaN where a setting is absent, and its ticks."""

    title: str
    heights: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def _axis(title: str, values: Sequence[object]) -> _Axis:
    given = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given) and given:
        numbers = np.array([math.nan if value is None else float(str(value)) for value in values])
        return _number_axis(title, numbers)
    names = list(dict.fromkeys(setting_text(value) for value in given))
    room = max(len(names) - 1, 1)
    place = {name: i / room if len(names) > 1 else 0.5 for i, name in enumerate(names)}
    heights = tuple(math.nan if value is None else place[setting_text(value)] for value in values)
    step = math.ceil(len(names) / _MOST_TICKS)
    return _Axis(title, heights, tuple((place[name], name) for name in names[::step]))


def _number_axis(title: str, numbers: np.ndarray) -> _Axis:
    known = numbers[~np.isnan(numbers)]
    low, high = float(known.min()), float(known.max())
    scale = fitted(title, known, log=low > 0 and high / low >= _LOG_FROM)
    heights = tuple(float(h) for h in scale.unit(numbers))
    distinct = np.unique(known)
    ticks = distinct.tolist() if len(distinct) <= _MOST_TICKS else scale.ticks
    return _Axis(
        title,
        heights,
        tuple((float(scale.unit(np.array([tick]))[0]), number_text(tick)) for tick in ticks),
    )


def parallel_plot(columns: Mapping[str, Sequence[object]], values: Sequence[float], metric: str) -> Markup:
    """Return the plot.

    Args:
        columns: by title of a setting, the value of each config; None where it is absent.
        values: metric of each config, the best first; NaN where it is unknown.
        metric: title of the last axis.
    """
    numbers = np.array(values, float)
    axes = [*(_axis(title, found) for title, found in columns.items()), _value_axis(metric, numbers)]
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    lines = []
    for i in reversed(range(len(values))):
        points = [
            f"{_LEFT + _STEP * j} {_y(axis.heights[i]):.1f}"
            for j, axis in enumerate(axes)
            if not math.isnan(axis.heights[i])
        ]
        share = 0.0 if math.isnan(values[i]) or high <= low else (values[i] - low) / (high - low)
        kind = "config best" if i == 0 and len(known) else "config"
        lines.append(f'<path d="M{"L".join(points)}" class="{kind}" style="--share:{100 * share:.0f}%"/>')
    width = _LEFT + _STEP * (len(axes) - 1) + 60
    best = metric_text(values[0]) if values else "n/a"
    alt = f"{len(values)} configs over {', '.join(columns)} to {metric}; the best has {best}."
    drawing = svg(alt, width, _TOP + _TALL + 20, *lines, *(_drawn(j, axis) for j, axis in enumerate(axes)))
    return element(
        "div", element("figure", drawing, cls="chart parallel", style=f"--wide:{1.15 * width:.0f}px"), cls="wide"
    )


def _value_axis(metric: str, numbers: np.ndarray) -> _Axis:
    known = numbers[~np.isnan(numbers)]
    scale = fitted(metric, known)
    heights = tuple(float(h) for h in scale.unit(numbers))
    ticks = tuple((float(scale.unit(np.array([tick]))[0]), number_text(tick)) for tick in scale.ticks)
    return _Axis(metric, heights, ticks)


def _y(height: float) -> float:
    return _TOP + (1 - height) * _TALL


def _drawn(number: int, axis: _Axis) -> str:
    x = _LEFT + _STEP * number
    parts = [stroke(x, _TOP, x, _TOP + _TALL, "axis"), words(x, _TOP - 16, axis.title, "name strong")]
    for height, text in axis.ticks:
        parts += [stroke(x - 3, _y(height), x, _y(height), "axis"), words(x - 6, _y(height) + 3.5, text, "halo", "end")]
    return "".join(parts)
