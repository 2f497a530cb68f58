"""The picture of one new image: input, heatmap and both blended, with its score and what the colors mean.

Drawn by Pillow: a figure of matplotlib takes tens of times as long, and there may be thousands of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fcdd_sweep.report.figures.image_grid import ColorScale, RgbImages, as_colors
from fcdd_sweep.report.figures.style import FAINT_INK, INK
from fcdd_sweep.report.text import score_text

LEAST_SIDE = 300
"""Shorter side of a picture in pixels, unless it is very long."""
LONGEST = 3
"""The longer side is at most this many times the least side."""
_HARD_PIXELS = 100
"""Images of fewer pixels a side are shown with hard edges, as the network sees them."""
_BLEND = 0.5
_LEAST_WIDTH = 560
"""Room for score and verdict beside one another."""
_MARGIN, _GAP, _BAR = 16, 10, 14
_TITLE, _TEXT, _SMALL = 17, 15, 13
_VERDICT = {"anomalous": "#b3261e", "nominal": "#1a7f4b"}


@dataclass(frozen=True)
class Said:
    """What is written on the picture.

    Attributes:
        name: of the image's file.
        score: its anomaly score.
        threshold: NaN when the trial has none.
        scale: the ends of the colors.
        notes: sentences below the pictures.
    """

    name: str
    score: float
    threshold: float
    scale: ColorScale
    notes: tuple[str, ...] = ()


def draw_prediction(
    seen: RgbImages, values: npt.NDArray[np.float32], said: Said, proportions: float = 1.0
) -> Image.Image:
    """One picture: name and score, three tiles and a bar of colors, notes.

    Args:
        seen: (S, S, 3) uint8, the network's view.
        values: (S, S) in 0..1, the heatmap to color.
        said: the words.
        proportions: width by height of what the view shows; the tiles have them again.
    """
    colored = as_colors(values[None])[0]
    blend = (seen * (1 - _BLEND) + colored * _BLEND).astype(np.uint8)
    size = tile_size(len(seen), proportions)
    tiles = {"input, as the network saw it": seen, "heatmap": colored, "heatmap over input": blend}
    labels = max(_width(text, _SMALL) for end in (said.scale.low, said.scale.high) for text in end.split("\n"))
    width = max(2 * _MARGIN + 3 * size[0] + 3 * _GAP + _BAR + 6 + labels, _LEAST_WIDTH)
    notes = [line for note in said.notes for line in _wrapped(note, width - 2 * _MARGIN)]
    top = _MARGIN + 3 * 26
    height = top + size[1] + _GAP + len(notes) * 19 + _MARGIN
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    _text(draw, (_MARGIN, _MARGIN), _shortened(said.name, width - 2 * _MARGIN, _TITLE), _TITLE)
    _draw_verdict(draw, (_MARGIN, _MARGIN + 26), said)
    for number, (label, pixels) in enumerate(tiles.items()):
        x = _MARGIN + number * (size[0] + _GAP)
        _text(draw, (x, top - 20), _shortened(label, size[0], _SMALL), _SMALL, FAINT_INK)
        picture.paste(_enlarged(pixels, size), (x, top))
    _draw_scale(picture, (_MARGIN + 3 * (size[0] + _GAP), top, size[1]), said)
    for number, line in enumerate(notes):
        _text(draw, (_MARGIN, top + size[1] + _GAP + 19 * number), line, _SMALL, FAINT_INK)
    return picture


def tile_size(side: int, proportions: float) -> tuple[int, int]:
    """Width and height in pixels: a whole multiple of the view where it is square, and nothing too long."""
    short = side * ceil(LEAST_SIDE / side)
    long = short * max(proportions, 1 / proportions)
    shrink = min(1.0, LONGEST * max(LEAST_SIDE, side) / long)
    sides = max(1, round(short * shrink)), max(1, round(long * shrink))
    return (sides[1], sides[0]) if proportions > 1 else sides


def _enlarged(pixels: RgbImages, size: tuple[int, int]) -> Image.Image:
    hard = len(pixels) < _HARD_PIXELS
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if hard else Image.Resampling.BICUBIC)


def _draw_verdict(draw: ImageDraw.ImageDraw, place: tuple[int, int], said: Said) -> None:
    score = f"score {score_text(said.score)}"
    if math.isnan(said.threshold):
        _text(draw, place, f"{score}; no threshold: the trial held no nominal images out", _TEXT)
        return
    above = said.score > said.threshold
    verdict = "anomalous" if above else "nominal"
    told = f"{score}, {'above' if above else 'not above'} the threshold of {score_text(said.threshold)}: "
    _text(draw, place, told, _TEXT)
    _text(draw, (place[0] + _width(told, _TEXT), place[1]), verdict, _TEXT, _VERDICT[verdict])


def _draw_scale(picture: Image.Image, place: tuple[int, int, int], said: Said) -> None:
    """A bar of `place` = left, top, height, red above, with its ends' meaning beside it."""
    left, top, height = place
    ramp = as_colors(np.linspace(1, 0, height, dtype=np.float32)[None, :, None])[0]
    picture.paste(Image.fromarray(ramp.repeat(_BAR, axis=1)), (left, top))
    draw = ImageDraw.Draw(picture)
    for text, y in ((said.scale.high, top), (said.scale.low, top + height - 17 * len(said.scale.low.split("\n")))):
        for number, line in enumerate(text.split("\n")):
            _text(draw, (left + _BAR + 6, y + 17 * number), line, _SMALL)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _width(text: str, size: int) -> int:
    return ceil(_font(size).getlength(text))


def _text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, color: str = INK) -> None:
    draw.text(place, text, font=_font(size), fill=color)


def _shortened(text: str, width: int, size: int) -> str:
    """The end of a text that is too long: of a path it tells most."""
    if _width(text, size) <= width:
        return text
    while text and _width(f"…{text}", size) > width:
        text = text[1:]
    return f"…{text}"


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if _width(longer, _SMALL) <= width else [*lines, word]
    return lines
