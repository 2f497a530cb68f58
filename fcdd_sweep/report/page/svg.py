"""Plots as SVG within the page: small, in the page's own colors (dark too), with a text for those who cannot see them.

Positions are in units of the drawing; the page scales it. Legends are lists of HTML, which wrap and are never cut off.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.page.html import Markup, element
from fcdd_sweep.report.text import abbreviated

COLORS = 10
"""Colors `--c0` to `--c9` of the style sheet."""
_MOST_POINTS = 80
"""Points of a line; more cannot be told apart at its size."""
WIDTH, HEIGHT = 340, 250
_MOST_NAME = 44
"""Characters of a row's name."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 10, 38


class Line(NamedTuple):
    """A line of a plot; NaN in y leaves a gap out. `band` is its lower and upper bound."""

    name: str
    x: FloatArray
    y: FloatArray
    is_mean: bool = False
    band: tuple[FloatArray, FloatArray] | None = None


@dataclass(frozen=True)
class PlotScale:
    """An axis: its title, ends and whether it is logarithmic."""

    title: str
    low: float
    high: float
    log: bool = False

    def unit(self, values: FloatArray) -> FloatArray:
        """Return positions from 0 to 1."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        given = np.log10(np.maximum(values, self.low)) if self.log else np.asarray(values, float)
        return np.asarray((given - low) / ((high - low) or 1.0))

    @property
    def ticks(self) -> list[float]:
        """About four round numbers between the ends."""
        if self.log:
            return [10.0**power for power in range(math.ceil(math.log10(self.low)), int(math.log10(self.high)) + 1)]
        return round_numbers(self.low, self.high)


def round_numbers(low: float, high: float, about: int = 4) -> list[float]:
    """Return numbers between two ends in steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(step for step in (1, 2, 5, 10) if span / (step * power) <= about + 0.5) * power
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def fitted(title: str, values: Sequence[float] | FloatArray, *, log: bool = False) -> PlotScale:
    """Return a scale that spans values with a little room; that of shares ends at 0 and 1."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known) & ((known > 0) | (not log))]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if log:
        return PlotScale(title, low / 1.2, high * 1.2, log=True)
    room = 0.04 * (high - low) or 0.5
    ends = (max(low - room, 0.0), min(high + room, 1.0)) if 0 <= low <= high <= 1 else (low - room, high + room)
    return PlotScale(title, *ends)


def svg(alt: str, width: float, height: float, *parts: str) -> Markup:
    """Return a drawing of this size with the text that stands for it."""
    text = html.escape(alt)
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img"><title>{text}</title>{body}</svg>')


def words(x: float, y: float, content: str, cls: str = "", anchor: str = "middle") -> str:
    """Return a text at a place."""
    kind = f' class="{cls}"' if cls else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{html.escape(content)}</text>'


def stroke(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'


def number_text(value: float) -> str:
    """Return a tick's number in few characters."""
    return f"{value:.3g}" if abs(value) >= 1e-3 or not value else f"{value:.0e}".replace("e-0", "e-")


def frame(x: PlotScale, y: PlotScale) -> str:
    """Return the axes of a plot: grid lines, numbers, titles."""
    parts = []
    for tick in y.ticks:
        at = _y(y, np.array([tick]))[0]
        parts += [stroke(_LEFT, at, WIDTH - _RIGHT, at, "grid"), words(_LEFT - 4, at + 3, number_text(tick), "", "end")]
    for tick in x.ticks:
        at = _x(x, np.array([tick]))[0]
        parts += [stroke(at, _TOP, at, HEIGHT - _BOTTOM, "grid"), words(at, HEIGHT - _BOTTOM + 13, number_text(tick))]
    parts.append(words((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, x.title, "name"))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(f'<g transform="rotate(-90 10 {middle})">{words(10, middle, y.title, "name")}</g>')
    return "".join(parts)


def _x(scale: PlotScale, values: FloatArray) -> FloatArray:
    return _LEFT + scale.unit(values) * (WIDTH - _LEFT - _RIGHT)


def _y(scale: PlotScale, values: FloatArray) -> FloatArray:
    return HEIGHT - _BOTTOM - scale.unit(values) * (HEIGHT - _TOP - _BOTTOM)


def line_plot(alt: str, lines: Sequence[Line], x: PlotScale, y: PlotScale, *, diagonal: bool = False) -> Markup:
    """Return lines over two axes with a legend below them.

    Args:
        alt: what the plot shows, in a sentence.
        lines: the mean in the color of text, the others in the page's colors by their number.
        diagonal: whether a line of chance is drawn.
    """
    parts = [frame(x, y)]
    if diagonal:
        parts.append(stroke(_x(x, np.zeros(1))[0], _y(y, np.zeros(1))[0], _x(x, np.ones(1))[0], _TOP, "grid"))
    for number, line in enumerate(lines):
        if line.band is not None:
            parts.append(_band(line, x, y))
        kind = "line mean" if line.is_mean else f"line s{number % COLORS}{' dash' if number >= COLORS else ''}"
        parts.append(f'<path d="{_path(line, x, y)}" class="{kind}"/>')
    drawing = svg(alt, WIDTH, HEIGHT, *parts)
    return element("figure", drawing, legend([(_key(i, line), line.name) for i, line in enumerate(lines)]), cls="chart")


def _key(number: int, line: Line) -> str:
    return "mean" if line.is_mean else f"s{number % COLORS}"


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return a list of colors (classes of the style sheet) and their names."""
    items = [element("li", element("i", cls=f"key {cls}"), name) for cls, name in entries]
    return element("ul", *items, cls="legend") if items else Markup("")


def _thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return at most so many points: those after which the line has gone furthest, in x and y alike."""
    if len(x) <= _MOST_POINTS:
        return x, y
    known = np.nan_to_num(y)
    spans = [max(float(np.ptp(axis)), 1e-12) for axis in (x, known)]
    way = np.cumsum(np.abs(np.diff(x, prepend=x[0])) / spans[0] + np.abs(np.diff(known, prepend=known[0])) / spans[1])
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _MOST_POINTS)).clip(max=len(x) - 1))
    kept = np.union1d(kept, [0, len(x) - 1])
    return x[kept], y[kept]


def _path(line: Line, x: PlotScale, y: PlotScale) -> str:
    xs, ys = _thinned(np.asarray(line.x, float), np.asarray(line.y, float))
    known = np.isfinite(xs) & np.isfinite(ys)
    return path_data(_x(x, xs[known]), _y(y, ys[known]))


def path_data(xs: FloatArray, ys: FloatArray) -> str:
    """Return the path through n points, to a tenth, in few characters: a page has hundreds. One point is a dot."""
    if not len(xs):
        return ""
    places = np.rint(10 * np.stack([xs, ys], axis=1)).astype(int)
    (left, top), steps = places[0].tolist(), np.diff(places, axis=0).tolist()
    way = "".join(_step(across, down) for across, down in steps if across or down)
    return f"M{_tenths(left)} {_tenths(top)}{way or 'h.1'}"  # a line through one point is invisible


def _step(across: int, down: int) -> str:
    """Return a step in tenths."""
    if not down:
        return f"h{_tenths(across)}"
    if not across:
        return f"v{_tenths(down)}"
    return f"l{_tenths(across)}{'' if down < 0 else ' '}{_tenths(down)}"


def _tenths(number: int) -> str:
    """Return a number of tenths without zeros that mean nothing: `12`, `-.3`."""
    whole, rest = divmod(abs(number), 10)
    digits = f"{whole}.{rest}" if whole and rest else f".{rest}" if rest else str(whole)
    return f"-{digits}" if number < 0 else digits


def _band(line: Line, x: PlotScale, y: PlotScale) -> str:
    assert line.band is not None
    xs, low = _thinned(line.x, line.band[0])
    back, high = _thinned(line.x, line.band[1])
    across = np.concatenate([_x(x, xs), _x(x, back)[::-1]])
    return f'<path d="{path_data(across, np.concatenate([_y(y, low), _y(y, high)[::-1]]))}Z" class="band"/>'


def histogram(alt: str, groups: Sequence[tuple[str, FloatArray]], x: str, threshold: float | None) -> Markup:
    """Return the shares of each group's values in 30 equal intervals, one behind the other, with a threshold."""
    every = np.concatenate([values for _, values in groups] or [np.zeros(1)])
    scale = fitted(x, [*every, *([] if threshold is None else [threshold])])
    edges = np.linspace(scale.low, scale.high, 31)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for _, values in groups]
    y = PlotScale("share of its images", 0.0, 1.08 * max((float(each.max()) for each in shares), default=1.0))
    parts = [frame(scale, y)]
    for number, share in enumerate(shares):
        steps = _y(y, np.repeat(share, 2))
        at = _x(scale, np.repeat(edges, 2)[1:-1])
        floor = [HEIGHT - _BOTTOM]
        outline = path_data(np.concatenate([at[:1], at, at[-1:]]), np.concatenate([floor, steps, floor]))
        parts.append(f'<path d="{outline}Z" class="area s{number}"/>')
    entries = [(f"s{number}", name) for number, (name, _) in enumerate(groups)]
    if threshold is not None:
        cut = float(_x(scale, np.array([threshold]))[0])
        parts.append(stroke(cut, _TOP, cut, HEIGHT - _BOTTOM, "threshold"))
        entries.append(("mean", f"threshold {number_text(threshold)}"))
    return element("figure", svg(alt, WIDTH, HEIGHT, *parts), legend(entries), cls="chart")


class Interval(NamedTuple):
    """A row of an interval plot; NaN ends have no bar."""

    name: str
    mean: float
    low: float
    high: float
    is_mean: bool = False


def interval_plot(alt: str, rows: Sequence[Interval], title: str) -> Markup:
    """Return means as dots and their intervals as bars, one row each, on one scale."""
    known = [row for row in rows if not math.isnan(row.mean)]
    ends = [end for row in known for end in (row.mean, row.low, row.high) if not math.isnan(end)]
    scale = fitted(title, ends)
    left = 12 + 5.6 * min(max((len(row.name) for row in rows), default=4), _MOST_NAME)
    width, step = left + 340, 20
    height = step * len(rows) + 44

    def at(value: float) -> float:
        return float(left + scale.unit(np.array([min(max(value, scale.low), scale.high)]))[0] * (width - left - 46))

    parts = []
    for tick in round_numbers(scale.low, scale.high, 5):
        parts += [stroke(at(tick), 6, at(tick), height - 36, "grid"), words(at(tick), height - 22, number_text(tick))]
    parts.append(words((left + width - 46) / 2, height - 6, title, "name"))
    for number, row in enumerate(rows):
        y = 16 + step * number
        parts.append(
            words(left - 6, y + 3.5, abbreviated(row.name, _MOST_NAME), "strong" if row.is_mean else "", "end")
        )
        if math.isnan(row.mean):
            parts.append(words(width - 4, y + 3.5, "n/a", "faint", "end"))
            continue
        if not math.isnan(row.low):
            parts.append(stroke(at(row.low), y, at(row.high), y, "bar mean" if row.is_mean else "bar"))
        kind = "dot mean" if row.is_mean else "dot"
        parts.append(f'<circle cx="{at(row.mean):.1f}" cy="{y}" r="3.6" class="{kind}"/>')
        parts.append(words(width - 4, y + 3.5, f"{row.mean:.3f}", "strong" if row.is_mean else "", "end"))
    return element("figure", svg(alt, width, height, *parts), cls="chart intervals")
