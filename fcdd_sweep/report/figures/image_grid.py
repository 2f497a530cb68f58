"""Strips: rows of small images, heatmaps and ground-truth maps, composed as arrays and lettered by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fcdd_sweep.metrics.shown_images import NO_MAP
from fcdd_sweep.report.figures.color_maps import DEFAULT_COLOR_MAP, RgbImages, as_colors, contour_color
from fcdd_sweep.report.figures.lettering import text_width, wrapped, write
from fcdd_sweep.report.figures.style import DPI, FAINT_INK, SMALL_PT, TEXT_PT, TITLE_PT

FRAME = 190
"""Gray level of the frame around each cell."""
CELL_IN = 1.1
"""Side of a cell in inches with which six cells are as wide as a paper's text."""
TITLE_IN = 4.8
"""Least width in inches: room for the longest title above few cells."""
UNKNOWN = 128
"""Gray level of a map that does not exist."""
ABSENT = 240
"""Gray level of an image that does not exist."""
_TITLE, _TEXT, _SMALL = (round(points * DPI / 72) for points in (TITLE_PT, TEXT_PT, SMALL_PT))
_LEAST_TEXT = 9
"""Pixels of the smallest text: below it nothing can be read."""
_MARGIN, _NAMES, _SCALE = round(0.05 * DPI), round(0.65 * DPI), round(0.9 * DPI)
"""Edge of a figure, room for the names of rows, and for a color bar, in pixels."""
_TITLE_HEIGHT, _CAPTION_HEIGHT, _GAP, _LINE = (round(inches * DPI) for inches in (0.3, 0.16, 0.1, 0.15))


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


def outlined(pictures: RgbImages, gt_maps: npt.NDArray[Any], color_map: str = DEFAULT_COLOR_MAP) -> RgbImages:
    """Return (n, H, W, 3) pictures with the contours of (n, S, S) ground-truth maps, S of any size; 1 is anomalous."""
    height, width = pictures.shape[1:3]
    size = gt_maps.shape[1:]
    rows, columns = np.arange(height) * size[0] // height, np.arange(width) * size[1] // width
    inside = np.asarray(gt_maps)[:, rows][:, :, columns] == 1
    edge = inside.copy()
    core = inside[:, 1:-1, 1:-1]
    core = core & inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1] & inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:]
    edge[:, 1:-1, 1:-1] &= ~core
    drawn = pictures.copy()
    drawn[edge] = contour_color(color_map)
    return drawn


def blended(pictures: RgbImages, colors: RgbImages) -> RgbImages:
    """Return half of each of two sets of pictures of one size."""
    return ((pictures.astype(np.uint16) + colors) // 2).astype(np.uint8)


def draw_strips(
    strips: Sequence[Strip],
    scale: ColorScale | None = None,
    cell_in: float = CELL_IN,
    note: str = "",
    color_map: str = DEFAULT_COLOR_MAP,
) -> Image.Image:
    """Return strips one below another as an image of `DPI` dots per inch.

    Args:
        strips: from top to bottom.
        scale: texts of the color bar on the right; None for no bar.
        cell_in: side of an image in inches.
        note: sentences below the strips.
        color_map: of the color bar.
    """
    cell = round(cell_in * DPI)
    columns = max(ceil(TITLE_IN / cell_in), *(strip.columns for strip in strips), 1)
    lines = wrapped(note, columns * cell, _SMALL)
    heights = [_height(strip, cell) for strip in strips]
    left = max([_NAMES, *(text_width(line, _TEXT) + 16 for strip in strips for line in _row_lines(strip))])
    right = _MARGIN if scale is None else _scale_width(scale)
    size = (left + columns * cell + right, sum(heights) + len(lines) * _LINE + 2 * _MARGIN)
    figure = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(figure)
    top = _MARGIN
    for strip, height in zip(strips, heights, strict=True):
        _draw_strip(figure, draw, strip, (left, top), cell)
        top += height
    for line in lines:
        write(draw, (left, top), line, _SMALL, FAINT_INK)
        top += _LINE
    if scale:
        _draw_scale(figure, scale, left + columns * cell, color_map)
    return figure


def _row_lines(strip: Strip) -> list[str]:
    return [line for row in strip.rows for line in row.name.split("\n")]


def _height(strip: Strip, cell: int) -> int:
    """Return title, rows, captions and a gap in pixels."""
    captions = _CAPTION_HEIGHT if strip.captions else 0
    return (_TITLE_HEIGHT if strip.title else 0) + len(strip.rows) * cell + captions + _GAP


def _draw_strip(
    figure: Image.Image, draw: ImageDraw.ImageDraw, strip: Strip, place: tuple[int, int], cell: int
) -> None:
    left, y = place
    if strip.title:
        write(draw, (left, y), strip.title, _TITLE)
        y += _TITLE_HEIGHT
    for name, images, marks in strip.rows:
        row = Image.fromarray(_concatenated(images, cell))
        figure.paste(row.resize((cell * len(images), cell), Image.Resampling.NEAREST), (left, y))
        _write_lines(draw, (left - 12, y + cell / 2), name, _TEXT, "right")
        size = _fitting(marks, round(0.9 * cell))
        for column, mark in enumerate(marks):
            if mark:
                _write_lines(draw, (left + (column + 0.5) * cell, y + cell / 2), mark, size, "middle")
        y += cell
    size = _fitting(strip.captions, cell - 4)
    for column, caption in enumerate(strip.captions):
        write(draw, (left + (column + 0.5) * cell, y), caption, size, side="middle")


def _write_lines(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, side: Any) -> None:
    """Write lines whose middle is at the height of `place`."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        write(draw, (place[0], place[1] + (number - len(lines) / 2) * 1.2 * size), line, size, side=side)


def _fitting(texts: Sequence[str], width: int) -> int:
    """Return the font size at which the longest line of texts fits into a width, so that neighbors do not overlap."""
    longest = max((text_width(line, _SMALL) for text in texts for line in text.split("\n")), default=0)
    return min(_SMALL, max(_LEAST_TEXT, int(_SMALL * width / max(longest, 1))))


def _concatenated(images: RgbImages, cell: int) -> RgbImages:
    """Return (n, S, S, 3) as one image of n cells with white edges; a gray frame shows where a white map ends."""
    images = near_size(images, cell)
    n, height, width, _ = images.shape
    edge = max(2, width // 60)
    cells = np.full((n, height + 2 * edge, width + 2 * edge, 3), 255, np.uint8)
    cells[:, edge - 1 : 1 - edge, edge - 1 : 1 - edge] = FRAME
    cells[:, edge:-edge, edge:-edge] = images
    return cells.transpose(1, 0, 2, 3).reshape(height + 2 * edge, n * (width + 2 * edge), 3)


def near_size(images: RgbImages, side: int) -> RgbImages:
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


def _scale_width(scale: ColorScale) -> int:
    lines = [line for text in (scale.low, scale.high) for line in text.split("\n")]
    return max(_SCALE, 24 + 20 + 10 + max(text_width(line, _SMALL) for line in lines) + _MARGIN)


def _draw_scale(figure: Image.Image, scale: ColorScale, left: int, color_map: str) -> None:
    """Draw a color bar with the texts of its ends, high values above."""
    height = min(round(0.6 * figure.height), 3 * DPI)
    top = (figure.height - height) // 2
    ramp = as_colors(np.linspace(1, 0, height, dtype=np.float32)[None, :, None], color_map)[0]
    figure.paste(Image.fromarray(ramp.repeat(20, axis=1)), (left + 24, top))
    draw = ImageDraw.Draw(figure)
    for text, y in ((scale.high, top), (scale.low, top + height)):
        _write_lines(draw, (left + 24 + 20 + 10, y), text, _SMALL, "left")
