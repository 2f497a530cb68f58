"""The figure of one predicted image: input, heatmap and both blended, with score, decision and a color bar.

Drawn by Pillow: matplotlib takes tens of times as long, and there may be thousands of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fcdd_sweep.report.figures.color_maps import DEFAULT_COLOR_MAP, RgbImages, as_colors
from fcdd_sweep.report.figures.image_grid import ColorScale, outlined
from fcdd_sweep.report.figures.lettering import text_width, wrapped, write
from fcdd_sweep.report.figures.style import FAINT_INK
from fcdd_sweep.report.text import score_text

LEAST_SIDE = 300
"""Least shorter side of a tile in pixels, unless the tile is very long."""
LONGEST = 3
"""The longer side of a tile is at most this many times the least side."""
_SHARP_PIXELS = 100
"""Images with a shorter side keep sharp pixels when they are enlarged, as the network sees them."""
_BLEND = 0.5
"""Share of the heatmap in the blend."""
_LEAST_WIDTH = 660
"""Least width of the figure in pixels: room for score and decision on one line."""
_MARGIN, _GAP, _BAR = 16, 10, 14
_TITLE, _TEXT, _SMALL = 17, 15, 13
_DISAGREES = "(the heatmap disagrees)"
_DECISION_COLORS = {"anomalous": "#b3261e", "nominal": "#1a7f4b"}


@dataclass(frozen=True)
class PredictionText:
    """Text of a prediction figure.

    Attributes:
        name: name of the image's file.
        score: its anomaly score.
        threshold: NaN when the trial has none.
        scale: texts at the ends of the color bar.
        notes: sentences below the tiles.
        agrees: whether the heatmap has anomalous pixels where the image is called anomalous, and none where nominal.
        votes: share of several detectors that agree with the label; None where a threshold decides.
        label: the majority of their votes, or what the p-value says; without these the threshold gives it.
        p_value: by which models that were trained on parts of the images decide; None where a threshold decides.
    """

    name: str
    score: float
    threshold: float
    scale: ColorScale
    notes: tuple[str, ...] = ()
    agrees: bool = True
    votes: float | None = None
    label: int | None = None
    p_value: float | None = None


def draw_prediction(
    seen: RgbImages,
    values: npt.NDArray[np.float32],
    text: PredictionText,
    proportions: float = 1.0,
    color_map: str = DEFAULT_COLOR_MAP,
    mask: npt.NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Return one figure: name and score, three tiles and a color bar, notes.

    Args:
        seen: (S, S, 3) uint8, the image as the network saw it.
        values: (S, S) in 0..1, the heatmap to color.
        text: what is written on the figure.
        proportions: width by height of the image's file, which the tiles are given again.
        color_map: of the heatmap.
        mask: (S, S), what is outlined on the last tile; None for nothing.
    """
    colored = as_colors(values[None], color_map)[0]
    blend = (seen * (1 - _BLEND) + colored * _BLEND).astype(np.uint8)
    size = tile_size(len(seen), proportions)
    tiles = {"input, as the network saw it": seen, "heatmap": colored, "heatmap over input": blend}
    labels = max(text_width(line, _SMALL) for end in (text.scale.low, text.scale.high) for line in end.split("\n"))
    width = max(2 * _MARGIN + 3 * size[0] + 3 * _GAP + _BAR + 6 + labels, _LEAST_WIDTH)
    notes = [line for note in text.notes for line in wrapped(note, width - 2 * _MARGIN, _SMALL)]
    top = _MARGIN + 3 * 26
    height = top + size[1] + _GAP + len(notes) * 19 + _MARGIN
    figure = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(figure)
    write(draw, (_MARGIN, _MARGIN), _shortened(text.name, width - 2 * _MARGIN, _TITLE), _TITLE)
    _draw_decision(draw, (_MARGIN, _MARGIN + 26), text)
    for number, (label, pixels) in enumerate(tiles.items()):
        x = _MARGIN + number * (size[0] + _GAP)
        write(draw, (x, top - 20), _shortened(label, size[0], _SMALL), _SMALL, FAINT_INK)
        tile = _enlarged(pixels, size)
        if mask is not None and pixels is blend:
            tile = Image.fromarray(outlined(np.asarray(tile)[None], mask[None], color_map)[0])
        figure.paste(tile, (x, top))
    _draw_scale(figure, (_MARGIN + 3 * (size[0] + _GAP), top, size[1]), text.scale, color_map)
    for number, line in enumerate(notes):
        write(draw, (_MARGIN, top + size[1] + _GAP + 19 * number), line, _SMALL, FAINT_INK)
    return figure


def tile_size(side: int, proportions: float) -> tuple[int, int]:
    """Return width and height of a tile in pixels: for a square image a whole multiple of its side.

    Args:
        side: of the image that the network saw.
        proportions: width by height of the tile.
    """
    short = side * ceil(LEAST_SIDE / side)
    long = short * max(proportions, 1 / proportions)
    shrink = min(1.0, LONGEST * max(LEAST_SIDE, side) / long)
    sides = max(1, round(short * shrink)), max(1, round(long * shrink))
    return (sides[1], sides[0]) if proportions > 1 else sides


def _enlarged(pixels: RgbImages, size: tuple[int, int]) -> Image.Image:
    sharp = len(pixels) < _SHARP_PIXELS
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC)


def _draw_decision(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: PredictionText) -> None:
    score = f"score {score_text(text.score)}"
    by_threshold = text.votes is None and text.p_value is None
    above = text.score > text.threshold if by_threshold else text.label == 1
    decision = "anomalous" if above else "nominal"
    if text.votes is not None:
        reason = f"{score}; {text.votes:.0%} of the seeds say: "
    elif text.p_value is not None and text.label is not None:
        reason = f"{score}, p-value {text.p_value:.3g}: "
    elif math.isnan(text.threshold):
        write(draw, place, f"{score}; no decision", _TEXT)
        return
    else:
        reason = f"{score}, {'above' if above else 'not above'} the threshold of {score_text(text.threshold)}: "
    write(draw, place, reason, _TEXT)
    after = place[0] + text_width(reason, _TEXT)
    write(draw, (after, place[1]), decision, _TEXT, _DECISION_COLORS[decision])
    if not text.agrees:
        write(draw, (after + text_width(f"{decision} ", _TEXT), place[1]), _DISAGREES, _TEXT)


def _draw_scale(figure: Image.Image, place: tuple[int, int, int], scale: ColorScale, color_map: str) -> None:
    """Draw a color bar at `place` (left, top, height), high values above, with the texts of its ends beside it."""
    left, top, height = place
    ramp = as_colors(np.linspace(1, 0, height, dtype=np.float32)[None, :, None], color_map)[0]
    figure.paste(Image.fromarray(ramp.repeat(_BAR, axis=1)), (left, top))
    draw = ImageDraw.Draw(figure)
    for text, y in ((scale.high, top), (scale.low, top + height - 17 * len(scale.low.split("\n")))):
        for number, line in enumerate(text.split("\n")):
            write(draw, (left + _BAR + 6, y + 17 * number), line, _SMALL)


def _shortened(text: str, width: int, size: int) -> str:
    """Return a text that fits into a width: the end of a longer one, as a path ends with the file's name."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"…{text}", size) > width:
        text = text[1:]
    return f"…{text}"
