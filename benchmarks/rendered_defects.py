"""Defects for the trees of `photo_trees`, drawn by polygons, lines and displaced pixels, with exact maps.

They are of no other renderer: training's and selection's anomalies are squares and noise (`fcdd_sweep.anomalies`), and
those of the `textures` data set are drawn from smooth random fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Spot = tuple[float, float]
"""Row and column in pixels."""
EXTENT = {"small": (0.05, 0.08), "large": (0.2, 0.35)}
"""Length of a defect by its size, as a share of the image's side."""
VISIBLE = 12.0
"""Gray levels, the largest of the channels, by which the most changed tenth of a defect's pixels must differ."""
_CHANGED = 3
"""Gray levels from which a pixel belongs to the map."""
_FINER = 4
"""Shapes are drawn at so many times the size, then shrunk: smooth edges."""
_TRIES = 50


def draw_defect(
    kind: str, size: str, image: Pixels, spot: Callable[[], Spot], rng: np.random.Generator
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return the (S, S, 3) image with a defect, and its (S, S) map.

    Args:
        kind: one of `KINDS`.
        size: `small` or `large`.
        image: (S, S, 3) uint8; outside the map it is left as it is.
        spot: draws where the middle of the defect is.
        rng: drawn from until the defect can be seen.
    Raises:
        RuntimeError: no try could be seen.
    """
    for _ in range(_TRIES):
        extent = rng.uniform(*EXTENT[size]) * len(image)
        changed = np.rint(np.clip(KINDS[kind](image.astype(np.float64), spot(), extent, rng), 0, 255))
        difference = np.abs(changed - image).max(axis=2)
        mask = difference >= _CHANGED
        if mask.sum() >= 0.05 * extent**2 and np.quantile(difference[mask], 0.9) >= VISIBLE:
            return np.where(mask[:, :, None], changed, image).astype(np.uint8), mask
    raise RuntimeError(f"no visible {size} {kind} in {_TRIES} tries")


def _scratch(image: Floats, spot: Spot, extent: float, rng: np.random.Generator) -> Floats:
    """Draw a broken line, bright on one flank and dark on the other, as light falls into a groove."""
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.25, 6))
    steps = extent / 6 * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    points = np.cumsum(steps, axis=0)
    points += np.array(spot) - points.mean(axis=0)
    width = rng.uniform(0.006, 0.012) * len(image) + 0.4
    across = np.array([math.cos(heading[0]), -math.sin(heading[0])]) * width * 0.6
    bright, dark = (_line(len(image), points + side * across, width) for side in (1, -1))
    strength = rng.uniform(50, 90) * rng.choice([-1, 1])
    return image + strength * (bright - 0.8 * dark)[:, :, None]


def _stain(image: Floats, spot: Spot, extent: float, rng: np.random.Generator) -> Floats:
    """Tint overlapping drops in one color; the surface shows through, and the rim is denser."""
    canvas = Image.new("L", (_FINER * len(image),) * 2)
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(3, 7)):
        row, column = np.array(spot) + rng.normal(0, 0.18 * extent, 2)
        tall, wide = extent * rng.uniform(0.15, 0.4, 2)
        box = (column - wide, row - tall, column + wide, row + tall)
        draw.ellipse([_FINER * value for value in box], fill=255)
    cover = _shrunk(canvas, rng.uniform(0.01, 0.06) * extent * _FINER)
    rim = np.clip(cover - ndimage.gaussian_filter(cover, 0.08 * extent), 0, 1)
    tint = rng.uniform(0.25, 0.9, 3) if rng.random() < 0.7 else rng.uniform(1.3, 1.6) * np.ones(3)
    density = np.clip(0.75 * cover + 0.6 * rim, 0, 1)[:, :, None]
    return image * (1 + density * (tint - 1)) + 20 * density * np.sign(tint - 1)


def _missing_piece(image: Floats, spot: Spot, extent: float, rng: np.random.Generator) -> Floats:
    """Break out a jagged polygon: behind it is the color of the image's edge, and the break throws a shadow."""
    corners = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(5, 10)))
    radius = extent / 2 * rng.uniform(0.6, 1.1, len(corners))
    points = np.array(spot) + radius[:, None] * np.stack([np.sin(corners), np.cos(corners)], axis=1)
    canvas = Image.new("L", (_FINER * len(image),) * 2)
    ImageDraw.Draw(canvas).polygon([(_FINER * x, _FINER * y) for y, x in points], fill=255)
    cover = _shrunk(canvas, 0.5 * _FINER)[:, :, None]
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    behind = np.median(edge, axis=0) + rng.normal(0, 2.5, image.shape)
    behind += rng.uniform(-25, 25)
    shadow = np.clip(cover - ndimage.shift(cover, (0.04 * extent, 0.04 * extent, 0), order=1), 0, 1)
    return (1 - cover) * image + cover * behind * (1 - 0.6 * shadow)


def _dent(image: Floats, spot: Spot, extent: float, rng: np.random.Generator) -> Floats:
    """Push the surface in: pixels move towards the middle, one flank is in the light and the other in the shade."""
    rows, columns = np.indices(image.shape[:2], dtype=np.float64)
    down, right = rows - spot[0], columns - spot[1]
    distance = np.hypot(down, right) / (extent / 2)
    depth = np.where(distance < 1, (1 - distance**2) ** 2, 0.0)
    pull = rng.uniform(0.5, 0.9) * depth
    where = [rows + pull * down, columns + pull * right]
    moved = np.stack([ndimage.map_coordinates(layer, where, order=1, mode="nearest") for layer in _layers(image)], 2)
    angle = rng.uniform(0, 2 * math.pi)
    slope = (down * math.sin(angle) + right * math.cos(angle)) / (extent / 2) * depth
    return moved + rng.uniform(110, 170) * slope[:, :, None]


KINDS: dict[str, Callable[[Floats, Spot, float, np.random.Generator], Floats]] = {
    "scratch": _scratch,
    "stain": _stain,
    "missing_piece": _missing_piece,
    "dent": _dent,
}


def _layers(image: Floats) -> Floats:
    return np.moveaxis(image, 2, 0)


def _line(side: int, points: Floats, width: float) -> Floats:
    """Return the (side, side) cover, 0 to 1, of a line through (n, 2) rows and columns."""
    canvas = Image.new("L", (_FINER * side,) * 2)
    corners = [(_FINER * column, _FINER * row) for row, column in points]
    ImageDraw.Draw(canvas).line(corners, fill=255, width=max(1, round(_FINER * width)), joint="curve")
    return _shrunk(canvas, 0.0)


def _shrunk(canvas: Image.Image, blur: float) -> Floats:
    """Return a drawing's cover, 0 to 1, at the size of the image."""
    side = canvas.width // _FINER
    smooth = canvas.filter(ImageFilter.GaussianBlur(blur)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(smooth, dtype=np.float64) / 255
