"""Frames of plots made of few artists: matplotlib's axes, ticks and legends take most of the time of a figure.

Places are in inches from the lower left corner of the figure, and sizes of text in points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from fcdd_sweep.report.figures.fonts import drawable
from fcdd_sweep.report.figures.lettering import text_width
from fcdd_sweep.report.figures.style import DPI, GRID, INK, TITLE_PT, Look

_POINT = 1 / 72
_ASCENT, _MIDDLE, _DESCENT = 0.76, 0.38, 0.24
"""Heights of digits, of their middles, and of what is below the line, as shares of the size of a text."""
_TICK_PT, _TO_NUMBER_PT, _TO_NAME_PT, _TO_TITLE_PT = 3.0, 6.5, 4.0, 6.0
_FRAME_LINE, _GRID_LINE = 0.8, 0.6
_BOX_PAD, _BOX_EDGE, _HANDLE, _HANDLE_GAP, _HANDLE_HEIGHT, _ENTRY = 0.4, 0.3, 2.2, 0.8, 0.7, 1.508
"""Of a legend, as shares of the size of its text: pad inside, room outside, handle, height of an entry."""


@dataclass(frozen=True)
class FrameAxis:
    """An axis of a frame.

    Attributes:
        name: written beside it.
        low, high: its ends.
        ticks: numbers between them that get a line of the grid.
        texts: of the ticks; empty for none.
        is_log: whether equal ratios are equally far.
    """

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    texts: tuple[str, ...] = ()
    is_log: bool = False

    def share(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return how far between the ends values are, 0 to 1."""
        given, low, high = np.asarray(values, float), self.low, self.high
        if self.is_log:
            given, low, high = np.log(given), np.log(low), np.log(high)
        return np.asarray((given - low) / (high - low))


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend: a line, or with `is_area` a filled box.

    Attributes:
        label: its text.
        style: keywords of the line, or of the box.
        is_area: whether it is a box.
    """

    label: str
    style: dict[str, Any]
    is_area: bool = False


@dataclass(frozen=True)
class WrittenLine:
    """A line of text: the place of the left end of its base line in inches, size in points, upwards or not."""

    text: str
    x: float
    y: float
    size: float
    color: str = INK
    is_upright: bool = False


class Lettering(Artist):
    """Lines of text drawn as they are: matplotlib's own texts take twice as long, as they lay each out anew."""

    def __init__(self, lines: Sequence[WrittenLine], zorder: float) -> None:
        """`zorder` is that of all lines."""
        super().__init__()
        self.lines = tuple(lines)
        self.set_zorder(zorder)

    def draw(self, renderer: Any) -> None:
        """Draw the lines."""
        height = renderer.get_canvas_width_height()[1]
        for line in self.lines:
            context = renderer.new_gc()
            context.set_foreground(line.color)
            x, y = self.get_transform().transform((line.x, line.y))
            y = height - y if renderer.flipy() else y
            font = FontProperties(size=line.size)
            renderer.draw_text(context, x, y, drawable(line.text), font, 90 if line.is_upright else 0)
            context.restore()


@dataclass(frozen=True)
class PlotFrame:
    """The place of a plot in a figure.

    Attributes:
        figure: gets the artists.
        left, bottom, width, height: in inches.
        x, y: its axes.
        look: sizes of its texts.
    """

    figure: Figure
    left: float
    bottom: float
    width: float
    height: float
    x: FrameAxis
    y: FrameAxis
    look: Look

    def places(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return (n, 2) places of n points."""
        across, up = np.broadcast_arrays(self.x.share(x), self.y.share(y))
        return np.stack([self.left + across * self.width, self.bottom + up * self.height], axis=-1)

    def line(self, x: npt.ArrayLike, y: npt.ArrayLike, **style: Any) -> None:
        """Draw a line through n points; `style` as of `Line2D`. Gaps are where a value is NaN."""
        self._add(Line2D(*self.places(x, y).T, **style))

    def band(self, x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, **style: Any) -> None:
        """Fill between two lines; `style` as of `PolyCollection`."""
        edge = np.concatenate([self.places(x, low), self.places(x, high)[::-1]])
        self._add(PolyCollection([edge], **style))

    def draw(self, title: str = "") -> None:
        """Draw grid, frame, ticks, numbers, names, and the title where the look has one."""
        across, up = self.places(self.x.ticks, self.y.low), self.places(self.x.low, self.y.ticks)
        right, top, tick = self.left + self.width, self.bottom + self.height, _TICK_PT * _POINT
        grid = [((x, self.bottom), (x, top)) for x, _ in across] + [((self.left, y), (right, y)) for _, y in up]
        self._lines(grid, color=GRID, linewidth=_GRID_LINE, zorder=0.5)
        frame = [((self.left, top), (self.left, self.bottom)), ((self.left, self.bottom), (right, self.bottom))]
        ticks = [((x, self.bottom), (x, self.bottom - tick)) for x, _ in across]
        ticks += [((self.left, y), (self.left - tick, y)) for _, y in up]
        self._lines(frame, color="black", linewidth=_FRAME_LINE, zorder=2.5, capstyle="projecting")
        self._lines(ticks, color=INK, linewidth=_FRAME_LINE, zorder=2.01)
        self.write(self._texts(title, [x for x, _ in across], [y for _, y in up]))

    def _texts(self, title: str, across: Sequence[float], up: Sequence[float]) -> Iterator[WrittenLine]:
        """Yield title, numbers and names."""
        size, name_pt = self.look.small_pt, self.look.text_pt
        below = self.bottom - (_TO_NUMBER_PT + _ASCENT * size) * _POINT
        for place, text in zip(across, self.x.texts, strict=False):
            yield WrittenLine(text, place - _width_in(text, size) / 2, below, size)
        beside = self.left - _TO_NUMBER_PT * _POINT
        for place, text in zip(up, self.y.texts, strict=False):
            yield WrittenLine(text, beside - _width_in(text, size), place - _MIDDLE * size * _POINT, size)
        x = self.left + (self.width - _width_in(self.x.name, name_pt)) / 2
        y = self.bottom - (_TO_NUMBER_PT + size + _TO_NAME_PT + _ASCENT * name_pt) * _POINT
        yield WrittenLine(self.x.name, x, y, name_pt)
        widest = max((_width_in(text, size) for text in self.y.texts), default=0.0)
        x = beside - widest - (_TO_NAME_PT + _DESCENT * name_pt) * _POINT
        y = self.bottom + (self.height - _width_in(self.y.name, name_pt)) / 2
        yield WrittenLine(self.y.name, x, y, name_pt, is_upright=True)
        if self.look.title:
            yield WrittenLine(title, self.left, self.bottom + self.height + _TO_TITLE_PT * _POINT, TITLE_PT)

    def write(self, lines: Iterable[WrittenLine], zorder: float = 3.0) -> None:
        """Write lines of text; empty ones are left out."""
        self._add(Lettering([line for line in lines if line.text], zorder))

    def legend(self, entries: Sequence[LegendEntry], place: tuple[float, float], *, is_framed: bool = True) -> None:
        """Draw a legend whose upper left corner is at a place.

        Args:
            entries: from the top.
            place: in inches; its size is that of `legend_size`.
            is_framed: whether it has an edge and a ground.
        """
        em = self.look.small_pt * _POINT
        width, height = legend_size([entry.label for entry in entries], self.look)
        left, top = place
        if is_framed:
            style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.2", "mutation_scale": em}
            style |= {"facecolor": (1, 1, 1, 0.9), "edgecolor": GRID, "linewidth": 1.0, "zorder": 5.0}
            self._add(FancyBboxPatch((left, top - height), width, height, **style))
        start, base = left + _BOX_PAD * em, top - (_BOX_PAD + _ENTRY - 0.5 - _DESCENT) * em
        texts = []
        for entry in entries:
            if entry.is_area:
                size = (_HANDLE * em, _HANDLE_HEIGHT * em)
                self._add(Rectangle((start, base), *size, **entry.style, zorder=5.1))
            else:
                y = base + _HANDLE_HEIGHT * em / 2
                own = entry.style | {"zorder": 5.1, "markevery": [1]}
                self._add(Line2D([start, start + _HANDLE * em / 2, start + _HANDLE * em], [y, y, y], **own))
            x = start + (_HANDLE + _HANDLE_GAP) * em
            texts.append(WrittenLine(entry.label, x, base, self.look.small_pt))
            base -= _ENTRY * em
        self.write(texts, zorder=5.1)

    def corner(self, labels: Sequence[str]) -> tuple[float, float]:
        """Return the place of a legend in the lower right corner of the plot."""
        width, height = legend_size(labels, self.look)
        edge = _BOX_EDGE * self.look.small_pt * _POINT
        return self.left + self.width - width - edge, self.bottom + height + edge

    def upper_corner(self, labels: Sequence[str]) -> tuple[float, float]:
        """Return the place of a legend in the upper right corner of the plot."""
        width, edge = legend_size(labels, self.look)[0], _BOX_EDGE * self.look.small_pt * _POINT
        return self.left + self.width - width - edge, self.bottom + self.height - edge

    def _lines(self, lines: Iterable[tuple[tuple[float, float], tuple[float, float]]], **style: Any) -> None:
        ends = [end for line in lines for end in line]
        codes = [Path.MOVETO, Path.LINETO] * (len(ends) // 2)
        self._add(PathPatch(Path(np.array(ends), codes), fill=False, **style))

    def _add(self, artist: Any) -> None:
        artist.set_transform(self.figure.dpi_scale_trans)
        self.figure.add_artist(artist)


def legend_size(labels: Sequence[str], look: Look) -> tuple[float, float]:
    """Return width and height of a legend in inches."""
    em = look.small_pt * _POINT
    widest = max((_width_in(label, look.small_pt) for label in labels), default=0.0)
    width = widest + (2 * _BOX_PAD + _HANDLE + _HANDLE_GAP) * em
    return width, (2 * _BOX_PAD + len(labels) * _ENTRY - 0.5) * em


def _width_in(text: str, size_pt: float) -> float:
    return text_width(text, round(size_pt * DPI / 72)) / DPI
