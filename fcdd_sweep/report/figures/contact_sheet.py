"""Contact sheets: one small picture per class for the page, composed as an array; texts beside it are the page's."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcdd_sweep.report.class_scores import SeedScores
from fcdd_sweep.report.figures.color_maps import RgbImages
from fcdd_sweep.report.figures.heatmaps import (
    ABOVE,
    LABEL_NAMES,
    TrialMaps,
    chosen_images,
    common_paths,
    decision_marks,
    disagreement_note,
)
from fcdd_sweep.report.figures.image_grid import as_rgb, near_size, outlined
from fcdd_sweep.report.text import score_text

_GAP = 2
_GAP_GRAY = 128
"""Between cells: visible on light pages and on dark ones."""
_QUALITY = 72
CELL, SMALL_CELL, MOST_LARGE = 64, 48, 60
"""Side of a cell in pixels, and the number of sheets on a page from which on cells are small."""


@dataclass(frozen=True)
class ContactSheet:
    """A picture of a class.

    Attributes:
        address: of the JPEG, as a `data:` address.
        size: its width and height in pixels.
        rows: names of its rows, from the top.
        labels: label of each column, `nominal` or `anomalous`.
        paths: of the image in each column.
        scores: text of the score in each column.
        is_outlined: whether heatmaps have the contours of ground-truth maps.
        marks: of the decision about each column, see `decision_marks`; or an empty tuple.
        legend: what marks mean; empty without any.
    """

    address: str
    size: tuple[int, int]
    rows: tuple[str, ...]
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    scores: tuple[str, ...]
    is_outlined: bool = False
    marks: tuple[str, ...] = ()
    legend: str = ""


def contact_sheet(seeds: Sequence[tuple[str, TrialMaps]], quantile: float, cell: int = CELL) -> ContactSheet | None:
    """Return inputs and heatmaps of the first seed, with the contours of ground-truth maps; None without images.

    Args:
        seeds: name and maps of each trial of a class; at least one.
        quantile: share of the values that the colors span.
        cell: about the side of an image in pixels.
    """
    name, maps = seeds[0]
    common = common_paths([each for _, each in seeds])
    rows = [each.rows_of(common) for _, each in seeds]
    chosen = chosen_images([each for _, each in seeds], rows)
    if not len(chosen):
        return None
    own = rows[0][chosen]
    inputs = near_size(as_rgb(maps.images[own]), cell)
    heat = near_size(maps.colored(own, quantile, "global"), cell)
    names = ["input", f"heatmap, {name}"]
    if maps.gt_maps is not None:
        heat = outlined(heat, maps.gt_maps[own], maps.color_map)
    pixels = _joined([inputs, heat])
    return ContactSheet(
        jpeg_uri(pixels),
        (pixels.shape[1], pixels.shape[0]),
        tuple(names),
        tuple(LABEL_NAMES[label] for label in maps.label[own]),
        tuple(maps.path[own].tolist()),
        tuple(map(score_text, maps.score[own].tolist())),
        maps.gt_maps is not None,
    )


def with_decisions(sheet: ContactSheet, scores: SeedScores) -> ContactSheet:
    """Return a contact sheet with the marks of decisions, where there are any.

    Args:
        sheet: of a class.
        scores: of its first seed, which the sheet shows.
    """
    if scores.called is None:
        return sheet
    rows = scores.by_path()
    shown = scores.only(np.array([rows[path] for path in sheet.paths], np.int64))
    legend = " ".join(filter(None, [f"{ABOVE} called anomalous.", disagreement_note(shown)]))
    return replace(sheet, marks=decision_marks(shown), legend=legend)


def _joined(rows: Sequence[RgbImages]) -> npt.NDArray[np.uint8]:
    """Return rows of (n, S, S, 3) images as one picture with gaps between them."""
    n, height, width, _ = rows[0].shape
    joined = np.full((len(rows) * (height + _GAP) - _GAP, n * (width + _GAP) - _GAP, 3), _GAP_GRAY, np.uint8)
    for i, images in enumerate(rows):
        for j, image in enumerate(images):
            top, left = i * (height + _GAP), j * (width + _GAP)
            joined[top : top + height, left : left + width] = image
    return joined


def jpeg_uri(pixels: npt.NDArray[np.uint8], quality: int = _QUALITY) -> str:
    """Return a picture as the `data:` address of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
