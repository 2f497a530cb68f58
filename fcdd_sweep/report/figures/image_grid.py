"""Strips: rows of small images, heatmaps and ground-truth maps, drawn by matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from fcdd_sweep.metrics.shown_images import NO_MAP
from fcdd_sweep.report.figures.style import DPI, FAINT_INK, INK, SMALL_PT, TEXT_PT, TITLE_PT

RgbImages = npt.NDArray[np.uint8]
COLOR_MAP = "jet"
FRAME = 190
"""Gray level of the frame around each cell."""
CELL_IN = 1.1
"""Side of a cell in inches with which six cells are as wide as a paper's text."""
TITLE_IN = 4.8
"""Least width in inches: room for the longest title above few cells."""
CHARACTER = 0.63
"""Width of a character as a share of the font size, with a small margin."""
UNKNOWN = 128
"""Gray level of a map that does not exist."""
ABSENT = 240
"""Gray level of an image that does not exist."""
_LINE_IN = 0.15
"""Height of a line of a note, in inches."""


class StripRow(NamedTuple):
    """A row of a strip.

    Attributes:
        name: text on its left.
        images: (n, S, S, 3) uint8.
        marks: n short texts drawn on the images, empty where there is none; or an empty tuple.
    """

    name: str
    images: RgbImages
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """Rows of images below a title: column i is one image in several views.

    Attributes:
        title: text above the strip.
        rows: each with the same number n of images.
        captions: n short texts below the rows, such as scores; or an empty tuple.
    """

    title: str
    rows: tuple[StripRow, ...]
    captions: tuple[str, ...] = ()

    @property
    def columns(self) -> int:
        """Number of images in a row."""
        return len(self.rows[0].images)


@dataclass(frozen=True)
class ColorScale:
    """Texts at the ends of the color bar."""

    low: str
    high: str


def as_rgb(images: npt.NDArray[Any]) -> RgbImages:
    """Return (n, C, S, S) uint8 with one or three channels as (n, S, S, 3)."""
    return np.broadcast_to(images.transpose(0, 2, 3, 1), (len(images), *images.shape[2:], 3)).astype(np.uint8)


def as_black_and_white(gt_maps: npt.NDArray[Any]) -> RgbImages:
    """Return (n, S, S) maps as (n, S, S, 3): white for 1, black for 0, gray for no map (`NO_MAP`)."""
    shades = np.array([0, 255, UNKNOWN], np.uint8)
    return as_rgb(shades[np.asarray(gt_maps, np.uint8)[:, None].clip(max=NO_MAP)])


def map_row(name: str, gt_maps: npt.NDArray[Any], mark: str) -> StripRow:
    """Return a row of (n, S, S) ground-truth maps; `mark` is drawn on the gray cell of an image without one."""
    absent = (np.asarray(gt_maps) == NO_MAP).all((1, 2)).tolist()
    return StripRow(name, as_black_and_white(gt_maps), tuple(mark if has_none else "" for has_none in absent))


def absent_row(name: str, like: RgbImages) -> StripRow:
    """Return a row of empty images, as many and as large as `like`; its name gives the reason."""
    return StripRow(name, np.full_like(like, ABSENT))


def as_colors(values: npt.NDArray[Any]) -> RgbImages:
    """Return (n, S, S) values in 0..1 as colors (n, S, S, 3)."""
    return np.asarray(matplotlib.colormaps[COLOR_MAP](values, bytes=True)[..., :3], np.uint8)


def draw_strips(
    strips: Sequence[Strip],
    scale: ColorScale | None = None,
    cell_in: float = CELL_IN,
    ax: Any = None,
    note: str = "",
) -> Figure:
    """Draw strips one below another.

    Args:
        strips: from top to bottom.
        scale: texts of the color bar on the right; None for no bar.
        cell_in: side of an image in inches.
        ax: where to draw; None makes a figure.
        note: sentences below the strips.
    """
    heights = [_height(strip, cell_in) for strip in strips]
    columns = max(ceil(TITLE_IN / cell_in), *(strip.columns for strip in strips), 1)
    lines = textwrap.wrap(note, int(72 * columns * cell_in / (CHARACTER * SMALL_PT)))
    total = sum(heights) + len(lines) * _LINE_IN / cell_in
    ax = ax or _new_axes(columns, total, cell_in, with_scale=scale is not None)
    top = 0.0
    for strip, height in zip(strips, heights, strict=True):
        _draw_strip(ax, strip, top, cell_in)
        top += height
    for number, line in enumerate(lines, 1):
        y = top + (number - 0.3) * _LINE_IN / cell_in
        ax.text(0, y, line, fontsize=SMALL_PT, color=FAINT_INK, va="baseline")
    ax.set(xlim=(0, columns), ylim=(total, 0), aspect="equal")
    ax.axis("off")
    if scale:
        _draw_scale(ax, scale, columns)
    drawn: Figure = ax.figure
    return drawn


def _height(strip: Strip, cell_in: float) -> float:
    """Return title, rows, captions and a gap in cells. Text has a size in inches whatever the size of a cell."""
    return (_title_in(strip) + (0.16 if strip.captions else 0.0) + 0.1) / cell_in + len(strip.rows)


def _title_in(strip: Strip) -> float:
    return 0.3 if strip.title else 0.0


def _new_axes(columns: int, height: float, cell_in: float, *, with_scale: bool) -> Any:
    left, right, margin = 0.65, 0.9 if with_scale else 0.05, 0.05
    width_in, height_in = left + columns * cell_in + right, height * cell_in + 2 * margin
    figure = Figure(figsize=(width_in, height_in), facecolor="white")
    place = (left / width_in, margin / height_in, columns * cell_in / width_in, height * cell_in / height_in)
    return figure.add_axes(place)


def _draw_strip(ax: Any, strip: Strip, top: float, cell_in: float) -> None:
    ax.text(0, top + 0.2 / cell_in, strip.title, fontsize=TITLE_PT, color=INK, va="baseline")
    y = top + _title_in(strip) / cell_in
    for name, images, marks in strip.rows:
        # one array per row: an axes or an image per cell would take seconds
        ax.imshow(_concatenated(images, cell_in), extent=(0, len(images), y + 1, y))
        ax.text(-0.06 / cell_in, y + 0.5, name, fontsize=TEXT_PT, color=INK, ha="right", va="center")
        size = _fitting(marks, 0.9 * cell_in)
        for column, mark in enumerate(marks):
            if mark:
                ax.text(column + 0.5, y + 0.5, mark, fontsize=size, color=INK, ha="center", va="center")
        y += 1
    size = _fitting(strip.captions, cell_in)
    for column, caption in enumerate(strip.captions):
        ax.text(column + 0.5, y + 0.12 / cell_in, caption, fontsize=size, color=INK, ha="center", va="baseline")


def _fitting(texts: Sequence[str], width_in: float) -> float:
    """Return the font size at which the longest line of texts fits into a width, so that neighbors do not overlap."""
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return min(SMALL_PT, 72 * width_in / (CHARACTER * max(longest, 1)))


def _concatenated(images: RgbImages, cell_in: float) -> RgbImages:
    """Return (n, S, S, 3) as one image of n cells with white edges; a gray frame shows where a white map ends."""
    images = _near_size(images, round(cell_in * DPI))
    n, height, width, _ = images.shape
    edge = max(2, width // 60)
    cells = np.full((n, height + 2 * edge, width + 2 * edge, 3), 255, np.uint8)
    cells[:, edge - 1 : 1 - edge, edge - 1 : 1 - edge] = FRAME
    cells[:, edge:-edge, edge:-edge] = images
    return cells.transpose(1, 0, 2, 3).reshape(height + 2 * edge, n * (width + 2 * edge), 3)


def _near_size(images: RgbImages, side: int) -> RgbImages:
    """Return images of about `side` pixels by whole factors: small ones repeated (sharp pixels), large averaged."""
    size = int(images.shape[1])
    if size <= side:
        factor = side // size
        return images.repeat(factor, axis=1).repeat(factor, axis=2)
    factor = size // side
    kept = size // factor
    trimmed = images[:, : kept * factor, : kept * factor]
    # adding strided views is several times as fast as a mean over short axes
    total = np.full((len(images), kept, kept, 3), factor**2 // 2, np.uint32)
    for y, x in np.ndindex(factor, factor):
        total += trimmed[:, y::factor, x::factor]
    return (total // factor**2).astype(np.uint8)


def _draw_scale(ax: Any, scale: ColorScale, columns: int) -> None:
    bar = ax.figure.colorbar(
        ScalarMappable(cmap=COLOR_MAP), cax=ax.inset_axes((1 + 0.12 / columns, 0.15, 0.1 / columns, 0.6))
    )
    bar.set_ticks([0, 1], labels=[scale.low, scale.high])
    bar.ax.tick_params(labelsize=SMALL_PT, length=2, colors=INK)
    bar.outline.set_linewidth(0.4)
