"""Text on Pillow's images, each character in a font that has it. Sizes are in pixels."""

from __future__ import annotations

from functools import cache, lru_cache
from math import ceil
from typing import Literal

from PIL import ImageDraw, ImageFont

from fcdd_sweep.report.figures.fonts import MAIN, FontFile, drawable, runs
from fcdd_sweep.report.figures.style import INK

Side = Literal["left", "middle", "right"]


@cache
def font_of(size: int, font: FontFile = MAIN) -> ImageFont.FreeTypeFont:
    """Return a font at a size."""
    return ImageFont.truetype(font.path, size, index=font.number)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> int:
    """Return the width of a line of text."""
    return ceil(sum(font_of(size, font).getlength(part) for font, part in runs(drawable(text))))


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    color: str = INK,
    side: Side = "left",
) -> None:
    """Write one line of text.

    Args:
        draw: of the image.
        place: x of the side of the text, and y of its upper edge.
        text: without line breaks.
        size: of the font.
        color: of the text.
        side: which part of the text is at x.
    """
    x, baseline = float(place[0]), place[1] + font_of(size).getmetrics()[0]
    if side != "left":
        x -= text_width(text, size) / (2 if side == "middle" else 1)
    for font, part in runs(drawable(text)):
        draw.text((x, baseline), part, font=font_of(size, font), fill=color, anchor="ls")
        x += font_of(size, font).getlength(part)


def wrapped(text: str, width: int, size: int) -> list[str]:
    """Return a text in lines no wider than a width, broken between words; no lines for no text."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
