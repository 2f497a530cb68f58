"""Defects drawn into crops of texture photographs, each with its exact map.

A defect is what it shows (`paint`) and where (`cover`, 0 to 1); the picture is `crop + cover * (paint - crop)`. Cover
below `FAINT` is set to 0 and the map is where any is left: outside the map no pixel differs. Sizes and strengths were
chosen by looking at the pictures, before any detector was trained on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

VERSION = "1"
"""Raised by hand when a change here, or in `data.textures`, alters pixels or maps."""

AREA = (0.01, 0.15)
"""Smallest and largest share of the crop that a map takes."""

FAINT = 0.1
"""Cover below this is not drawn: nobody would see it."""

SEEN = 4.0
"""Grey levels by which a pixel must change to count as seen. At least half of a map's pixels must: a blurred patch of
an even brick, for instance, shows nothing, and a map of it would name pixels that nobody could find."""

_TRIES = 200

Grey = npt.NDArray[np.float64]
Drawing = tuple[Grey, Grey]
"""Paint in grey levels and cover, both (S, S)."""


def render(
    name: str, crop: npt.NDArray[np.uint8], foreign: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draw a defect into a crop.

    Args:
        name: one of `DEFECTS`.
        crop: (S, S) uint8; S about 100: lengths and widths are in pixels.
        foreign: (S, S) uint8, another material, for `foreign_patch`.
        rng: drawn from until a defect has an area within `AREA` and can be seen.
    Returns:
        The picture, (S, S) uint8, and its map, (S, S) bool. Outside the map the picture equals the crop.
    Raises:
        RuntimeError: no visible defect in 200 tries, as in an even crop.
    """
    draw, grey = DEFECTS[name], crop.astype(np.float64)
    for _ in range(_TRIES):
        paint, cover = draw(grey, foreign.astype(np.float64), rng)
        cover = np.where(cover < FAINT, 0.0, np.minimum(cover, 1.0))
        picture = np.rint(np.clip(grey + cover * (paint - grey), 0, 255))
        where = cover > 0
        if AREA[0] <= where.mean() <= AREA[1] and np.mean(np.abs(picture - grey)[where] >= SEEN) >= 0.5:
            return picture.astype(np.uint8), where
    raise RuntimeError(f"no visible {name!r} in {_TRIES} tries on a crop of shape {crop.shape}")


def _scratch(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """A gentle arc that thins out and fades towards its ends, lighter or darker than the surface."""
    path = _curve(crop.shape, rng, length=rng.uniform(50, 105), curl=0.006)
    distance, along = _nearest(crop.shape, path)
    width = rng.uniform(2.0, 3.2) * _busy(crop) * _taper(along) * (1 + 0.25 * _smooth_line(len(path), 15, rng)[along])
    grain = 1 - 0.2 * np.abs(_smooth_line(len(path), 4, rng)[along])
    cover = _stroke(distance, width) * grain * (0.6 + 0.4 * _taper(along))
    tone = rng.choice([-1.0, 1.0]) * rng.uniform(60, 85) * _busy(crop)
    return 0.2 * crop + 0.8 * (crop.mean() + tone), cover


def _thread(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """A curling fibre that lies on the surface: nearly opaque, rounded, with a soft shadow beside it."""
    path = _curve(crop.shape, rng, length=rng.uniform(60, 130), curl=0.03)
    distance, along = _nearest(crop.shape, path)
    width = rng.uniform(1.3, 2.0) * _busy(crop) * (1 + 0.12 * _smooth_line(len(path), 5, rng)[along])
    body = 0.9 * ndimage.gaussian_filter(_stroke(distance, width), 0.4)
    shadow = 0.5 * ndimage.gaussian_filter(ndimage.shift(body, rng.choice([-1.3, 1.3], size=2), order=1), 0.6)
    tone = np.clip(crop.mean() + rng.choice([-1.0, 1.0]) * rng.uniform(80, 100) * _busy(crop), 20, 240)
    shine = tone * (1 + 0.08 * _smooth_line(len(path), 8, rng)[along])
    cover = np.maximum(body, shadow)
    share = body / np.maximum(cover, FAINT)
    return share * shine + (1 - share) * 0.5 * crop, cover


def _hole(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """A pit: dark, its rough floor lighter where the light reaches it, and a faint bright lip on that side."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.015, 0.06), roughness=0.5)
    light = np.clip(_ramp(inside, rng), -1, 1)
    wall = np.clip(ndimage.distance_transform_edt(inside) / rng.uniform(1.5, 3.5), 0, 1)
    rough = 1 + 0.45 * light + 0.15 * _smooth_field(crop.shape, 1.2, rng)
    floor = (0.6 - rng.uniform(0.25, 0.4) * wall) * (0.6 * crop.mean() + 0.4 * crop) * rough
    pit = _feather(inside, 0.7)
    lip = 0.45 * np.clip(light, 0, 1) * np.clip(_feather(inside, 1.6) - pit, 0, 1)
    share = pit / np.maximum(pit + lip, FAINT)
    return share * floor + (1 - share) * 235, pit + lip


def _stain(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """Something that soaked in: darker or paler, uneven, often with a tide mark; the texture shows through."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.03, 0.11), roughness=0.75)
    edge = np.exp(-ndimage.distance_transform_edt(inside) / 3.0)
    uneven = 1 + 0.15 * _smooth_field(crop.shape, 6, rng) + rng.uniform(0, 0.25) * edge
    density = np.clip(rng.uniform(0.37, 0.5) * _busy(crop) * uneven, 0, 0.75)
    target = rng.uniform(15, 40) if rng.random() < 0.65 else rng.uniform(225, 245)
    return crop + density * (target - crop), _feather(inside, rng.uniform(0.8, 1.8))


def _foreign_patch(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """A piece of another material, its edge a little soft."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.04, 0.12), roughness=0.5)
    return foreign, _feather(inside, rng.uniform(0.6, 1.1))


def _blur(crop: Grey, foreign: Grey, rng: np.random.Generator) -> Drawing:
    """A patch that is out of focus, or smeared along one axis."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.03, 0.11), roughness=0.6)
    strong, weak = rng.uniform(1.8, 2.8), rng.uniform(0.6, 1.0)
    sigma = [(strong, strong), (strong, strong), (1.4 * strong, weak), (weak, 1.4 * strong)][rng.integers(4)]
    return np.asarray(ndimage.gaussian_filter(crop, sigma)), _feather(inside, rng.uniform(1.0, 2.0))


DEFECTS: dict[str, Callable[[Grey, Grey, np.random.Generator], Drawing]] = {
    "scratch": _scratch,
    "thread": _thread,
    "hole": _hole,
    "stain": _stain,
    "foreign_patch": _foreign_patch,
    "blur": _blur,
}


def _busy(crop: Grey) -> float:
    """How much stronger than in an even surface a defect must be to stand out as much: 0.8 to 1.33."""
    return float(np.clip(crop.std(), 24, 40)) / 30


def _standard(values: Grey) -> Grey:
    """Mean 0, standard deviation 1."""
    return np.asarray((values - values.mean()) / values.std())


def _smooth_line(n: int, sigma: float, rng: np.random.Generator) -> Grey:
    return _standard(ndimage.gaussian_filter1d(rng.standard_normal(n), sigma))


def _smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Grey:
    return _standard(ndimage.gaussian_filter(rng.standard_normal(shape), sigma))


def _curve(shape: tuple[int, ...], rng: np.random.Generator, length: float, curl: float) -> Grey:
    """(n, 2) points half a pixel apart on a smooth curve whose middle lies in the crop; `curl` is in radians a step."""
    steps = round(2 * length)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(curl * _smooth_line(steps, 25, rng))
    points = 0.5 * np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    middle = rng.uniform(0.25, 0.75, size=2) * shape
    return np.asarray(points - points.mean(axis=0) + middle)


def _nearest(shape: tuple[int, ...], path: Grey) -> tuple[Grey, npt.NDArray[np.int64]]:
    """For every pixel the distance to the path in pixels, and the number of the path's nearest point."""
    from scipy.spatial import cKDTree  # a quarter of a second that `scan` need not pay

    pixels = np.indices(shape).reshape(2, -1).T
    distance, point = cKDTree(path).query(pixels)
    return distance.reshape(shape), point.reshape(shape)


def _stroke(distance: Grey, width: Grey) -> Grey:
    """Anti-aliased cover of a line, from 1 on its axis to 0 half a pixel outside its edge."""
    return np.clip(width / 2 + 0.5 - distance, 0.0, 1.0) * np.minimum(width, 1.0)


def _taper(along: npt.NDArray[np.int64]) -> Grey:
    """0 at both ends of a path, 1 from a quarter of its length inwards."""
    share = along / max(along.max(), 1)
    return np.asarray(np.minimum(1.0, 4 * np.minimum(share, 1 - share)))


def _blob(shape: tuple[int, ...], rng: np.random.Generator, share: float, roughness: float) -> npt.NDArray[np.bool_]:
    """One piece with an irregular outline that takes about `share` of the crop.

    A slanted elliptic hill plus smooth noise is cut at the height that leaves the share; the largest piece stays.
    """
    centre = rng.uniform(0.1, 0.9, size=2) * shape
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.7)
    radius = np.sqrt(share * shape[0] * shape[1] / np.pi)
    y, x = (np.indices(shape) - centre[:, None, None]) / radius
    long, short = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    hill = -np.hypot(long / np.sqrt(stretch), short * np.sqrt(stretch))
    height = hill + roughness * 0.5 * _smooth_field(shape, 0.35 * radius, rng)
    pieces, _ = ndimage.label(height >= np.quantile(height, 1 - share))
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(pieces == largest))


def _feather(inside: npt.NDArray[np.bool_], sigma: float) -> Grey:
    return np.asarray(ndimage.gaussian_filter(inside.astype(np.float64), sigma))


def _ramp(inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> Grey:
    """-1 to 1 across a piece in a random direction, and beyond it outside: which side the light falls on."""
    y, x = np.nonzero(inside)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(inside.shape)
    across = (rows - y.mean()) * np.sin(angle) + (columns - x.mean()) * np.cos(angle)
    return np.asarray(across / np.abs(across[inside]).max())
