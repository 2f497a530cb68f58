"""A strip of images at the width of a paper's column: pixels as they are, text as text of 8 points."""

from __future__ import annotations

from matplotlib.figure import Figure

from fcdd_sweep.report.figures.image_grid import Strip
from fcdd_sweep.report.figures.style import INK, PAPER, place_axes, plain_figure

_NAMES_IN = 0.52
_GAP = 0.04
"""Share of a cell that is left free around its image."""
_CAPTION_IN = 0.14


def draw_paper_grid(strip: Strip) -> Figure:
    """Draw rows of images with their names, and the numbers of the captions below them.

    Labels in captions, which would not fit below small images, are written once over the columns that share them.
    """
    labels = [caption.rpartition(" ")[0] for caption in strip.captions]
    cell = (PAPER.width_in - _NAMES_IN) / max(strip.columns, 1)
    top = _CAPTION_IN if any(labels) else 0.03
    height = top + cell * len(strip.rows) + (_CAPTION_IN + 0.03 if strip.captions else 0.03)
    figure = plain_figure(PAPER.width_in, height)
    for number, row in enumerate(strip.rows):
        y = height - top - cell * (number + 1)
        figure.text(
            (_NAMES_IN - 0.04) / PAPER.width_in,
            (y + cell / 2) / height,
            row.name,
            fontsize=PAPER.small_pt,
            color=INK,
            ha="right",
            va="center",
        )
        for column, image in enumerate(row.images):
            side = cell * (1 - 2 * _GAP)
            ax = place_axes(figure, _NAMES_IN + cell * (column + _GAP), y + cell * _GAP, side, side)
            ax.imshow(image, interpolation="none")
            ax.axis("off")
    for column, caption in enumerate(strip.captions):
        x = (_NAMES_IN + cell * (column + 0.5)) / PAPER.width_in
        text = caption.rpartition(" ")[2]
        figure.text(x, 0.03 / height, text, fontsize=_fitting(text, cell), color=INK, ha="center", va="bottom")
    for label in dict.fromkeys(filter(None, labels)):
        own = [column for column, each in enumerate(labels) if each == label]
        x = (_NAMES_IN + cell * (own[0] + own[-1] + 1) / 2) / PAPER.width_in
        figure.text(x, 1 - 0.02 / height, label, fontsize=PAPER.small_pt, color=INK, ha="center", va="top")
    return figure


def _fitting(text: str, width_in: float) -> float:
    return min(PAPER.small_pt, 72 * width_in / (0.63 * max(len(text), 1)))
