"""What images look like, for choices of settings: their sizes, and whether they have color. Needs no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fcdd_sweep.data.decoding.pixels import PLAIN
from fcdd_sweep.data.decoding.reading import open_image

LOOKED_AT = 200
"""Of more images so many are looked at, evenly spread."""
FEWEST_PIXELS = 8
"""Width and height below which a file is hardly an image."""
_THUMBNAIL = 64
_COLOR = 12
"""Difference of two channels, of 255, from which on a pixel has color: JPEG gives gray images less."""
_COLORED = 0.005
"""Share of such pixels from which on an image has color."""


@dataclass(frozen=True)
class Appearance:
    """What images look like.

    Attributes:
        looked_at: how many of them were opened.
        unreadable: how many of those do not decode.
        smallest, largest: width and height in pixels, by area.
        median: the same by the shorter side.
        sizes: number of different sizes.
        tiny: how many have a side of less than `FEWEST_PIXELS`.
        colored: share of the images that have color.
    """

    looked_at: int
    unreadable: int
    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    sizes: int
    tiny: int
    colored: float


def appearance_of(files: Sequence[Path]) -> Appearance | None:
    """Return what image files look like, or None where none of them can be opened."""
    chosen = [files[i * len(files) // LOOKED_AT] for i in range(LOOKED_AT)] if len(files) > LOOKED_AT else list(files)
    seen = [found for found in map(_seen, chosen) if found is not None]
    if not seen:
        return None
    sizes = sorted((size for size, _ in seen), key=lambda size: (min(size), max(size)))
    return Appearance(
        looked_at=len(chosen),
        unreadable=len(chosen) - len(seen),
        smallest=min(sizes, key=math.prod),
        median=sizes[len(sizes) // 2],
        largest=max(sizes, key=math.prod),
        sizes=len(set(sizes)),
        tiny=sum(min(size) < FEWEST_PIXELS for size in sizes),
        colored=statistics.fmean(colored for _, colored in seen),
    )


def _seen(path: Path) -> tuple[tuple[int, int], bool] | None:
    """Return an image's size and whether it has color; None where it does not decode, which the decoder reports."""
    try:
        with open_image(path, path, PLAIN.max_megapixels) as image:
            size = image.size
            if image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")):
                return size, False
            image.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
            pixels = np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST).convert("RGB"))
    except Exception:  # too large, or damaged: Pillow's readers raise many types
        return None
    spread = pixels.max(2).astype(np.int16) - pixels.min(2)
    return size, bool((spread > _COLOR).mean() > _COLORED)
