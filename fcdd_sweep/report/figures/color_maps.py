"""Color maps of heatmaps: values in 0..1 become colors."""

from __future__ import annotations

from functools import cache
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.schema import Heatmaps

RgbImages = npt.NDArray[np.uint8]
DEFAULT_COLOR_MAP: str = Heatmaps().color_map
_LOW_HIGH = {
    "inferno": ("black", "yellow"),
    "magma": ("black", "white"),
    "viridis": ("violet", "yellow"),
    "cividis": ("blue", "yellow"),
    "jet": ("blue", "red"),
}
"""What the ends of each map are called."""
_CONTOURS = {"jet": (255, 255, 255), "viridis": (255, 255, 255), "cividis": (255, 255, 255)}
_CYAN = (0, 229, 255)


@cache
def _table(color_map: str) -> RgbImages:
    return np.asarray(matplotlib.colormaps[color_map](np.arange(256), bytes=True)[:, :3], np.uint8)


def as_colors(values: npt.NDArray[Any], color_map: str = DEFAULT_COLOR_MAP) -> RgbImages:
    """Return (n, S, S) values in 0..1 as colors (n, S, S, 3)."""
    steps = np.clip(np.asarray(values) * 256, 0, 255).astype(np.uint8)
    return _table(color_map)[steps]


def low_high(color_map: str) -> str:
    """Return what low and high values look like: `black low and yellow high`."""
    low, high = _LOW_HIGH[color_map]
    return f"{low} low and {high} high"


def contour_color(color_map: str) -> tuple[int, int, int]:
    """Return a color that no value of the map has, for outlines over it."""
    return _CONTOURS.get(color_map, _CYAN)
