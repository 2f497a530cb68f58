"""Texture photographs of scikit-image, cut into crops, with rendered defects and exact maps; see docs/textures.md.

A class is one photograph. Training and test crops come from regions of it that share no pixel (`regions`).

A defect has a `paint` in gray levels and a `cover` from 0 to 1; the image is `crop + cover * (paint - crop)`. Cover
below `FAINT_CONTRAST` is set to 0, and the map is where cover is left: outside the map no pixel differs. Sizes and
strengths were chosen by looking at the images, before any detector was trained on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.records import DatasetScan, DecodedImage, Record, wanted_classes
from fcdd_sweep.data.registry import info

DEFECTS_VERSION = "1"
"""Raised by hand when a change in this module alters pixels or maps."""
AREA = (0.01, 0.15)
"""Smallest and largest share of the crop that a map covers."""
FAINT_CONTRAST = 0.1
"""Cover below this is not drawn: it would be invisible."""
VISIBLE_CONTRAST = 4.0
"""Gray levels by which a pixel must change to count as seen. At least half of a map's pixels must: a blurred patch of
an even brick, for instance, shows nothing, and a map of it would name pixels that nobody could find."""
_TRIES = 200
Gray = npt.NDArray[np.float64]
Drawing = tuple[Gray, Gray]
"""Paint in gray levels and cover, both (S, S)."""


def render_defect(
    name: str, crop: npt.NDArray[np.uint8], foreign: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draw a defect into a crop.

    Args:
        name: one of `DEFECT_DRAWINGS`.
        crop: (S, S) uint8; S about 100: lengths and widths are in pixels.
        foreign: (S, S) uint8, another material, for `foreign_patch`.
        rng: drawn from until a defect has an area within `AREA` and can be seen.
    Returns:
        The image, (S, S) uint8, and its map, (S, S) bool. Outside the map the image equals the crop.
    Raises:
        RuntimeError: no visible defect in 200 tries, as in an even crop.
    """
    draw, gray = DEFECT_DRAWINGS[name], crop.astype(np.float64)
    for _ in range(_TRIES):
        paint, cover = draw(gray, foreign.astype(np.float64), rng)
        cover = np.where(cover < FAINT_CONTRAST, 0.0, np.minimum(cover, 1.0))
        picture = np.rint(np.clip(gray + cover * (paint - gray), 0, 255))
        where = cover > 0
        if AREA[0] <= where.mean() <= AREA[1] and np.mean(np.abs(picture - gray)[where] >= VISIBLE_CONTRAST) >= 0.5:
            return picture.astype(np.uint8), where
    raise RuntimeError(f"no visible {name!r} in {_TRIES} tries on a crop of shape {crop.shape}")


def _scratch(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a gentle arc that thins out and fades towards its ends, lighter or darker than the surface."""
    path = _curve(crop.shape, rng, length=rng.uniform(50, 105), curl=0.006)
    distance, along = _nearest(crop.shape, path)
    width = rng.uniform(2.0, 3.2) * _busy(crop) * _taper(along) * (1 + 0.25 * _smooth_line(len(path), 15, rng)[along])
    grain = 1 - 0.2 * np.abs(_smooth_line(len(path), 4, rng)[along])
    cover = _stroke(distance, width) * grain * (0.6 + 0.4 * _taper(along))
    tone = rng.choice([-1.0, 1.0]) * rng.uniform(60, 85) * _busy(crop)
    return 0.2 * crop + 0.8 * (crop.mean() + tone), cover


def _thread(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a curling fiber on the surface: nearly opaque, rounded, with a soft shadow beside it."""
    path = _curve(crop.shape, rng, length=rng.uniform(60, 130), curl=0.03)
    distance, along = _nearest(crop.shape, path)
    width = rng.uniform(1.3, 2.0) * _busy(crop) * (1 + 0.12 * _smooth_line(len(path), 5, rng)[along])
    body = 0.9 * ndimage.gaussian_filter(_stroke(distance, width), 0.4)
    shadow = 0.5 * ndimage.gaussian_filter(ndimage.shift(body, rng.choice([-1.3, 1.3], size=2), order=1), 0.6)
    tone = np.clip(crop.mean() + rng.choice([-1.0, 1.0]) * rng.uniform(80, 100) * _busy(crop), 20, 240)
    shine = tone * (1 + 0.08 * _smooth_line(len(path), 8, rng)[along])
    cover = np.maximum(body, shadow)
    share = body / np.maximum(cover, FAINT_CONTRAST)
    return share * shine + (1 - share) * 0.5 * crop, cover


def _hole(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a pit: dark, its rough floor lighter where the light reaches it, and a faint bright lip on that side."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.015, 0.06), roughness=0.5)
    light = np.clip(_ramp(inside, rng), -1, 1)
    wall = np.clip(ndimage.distance_transform_edt(inside) / rng.uniform(1.5, 3.5), 0, 1)
    rough = 1 + 0.45 * light + 0.15 * _smooth_field(crop.shape, 1.2, rng)
    floor = (0.6 - rng.uniform(0.25, 0.4) * wall) * (0.6 * crop.mean() + 0.4 * crop) * rough
    pit = _feather(inside, 0.7)
    lip = 0.45 * np.clip(light, 0, 1) * np.clip(_feather(inside, 1.6) - pit, 0, 1)
    share = pit / np.maximum(pit + lip, FAINT_CONTRAST)
    return share * floor + (1 - share) * 235, pit + lip


def _stain(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a soaked patch: darker or paler, uneven, often with a tide mark; the texture shows through."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.03, 0.11), roughness=0.75)
    edge = np.exp(-ndimage.distance_transform_edt(inside) / 3.0)
    uneven = 1 + 0.15 * _smooth_field(crop.shape, 6, rng) + rng.uniform(0, 0.25) * edge
    density = np.clip(rng.uniform(0.37, 0.5) * _busy(crop) * uneven, 0, 0.75)
    target = rng.uniform(15, 40) if rng.random() < 0.65 else rng.uniform(225, 245)
    return crop + density * (target - crop), _feather(inside, rng.uniform(0.8, 1.8))


def _foreign_patch(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a piece of another material with a slightly soft edge."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.04, 0.12), roughness=0.5)
    return foreign, _feather(inside, rng.uniform(0.6, 1.1))


def _blur(crop: Gray, foreign: Gray, rng: np.random.Generator) -> Drawing:
    """Draw a patch that is out of focus, or smeared along one axis."""
    inside = _blob(crop.shape, rng, share=rng.uniform(0.03, 0.11), roughness=0.6)
    strong, weak = rng.uniform(1.8, 2.8), rng.uniform(0.6, 1.0)
    sigma = [(strong, strong), (strong, strong), (1.4 * strong, weak), (weak, 1.4 * strong)][rng.integers(4)]
    return np.asarray(ndimage.gaussian_filter(crop, sigma)), _feather(inside, rng.uniform(1.0, 2.0))


DEFECT_DRAWINGS: dict[str, Callable[[Gray, Gray, np.random.Generator], Drawing]] = {
    "scratch": _scratch,
    "thread": _thread,
    "hole": _hole,
    "stain": _stain,
    "foreign_patch": _foreign_patch,
    "blur": _blur,
}


def _busy(crop: Gray) -> float:
    """Return the factor, 0.8 to 1.33, by which a defect must be stronger to stand out as on an even surface."""
    return float(np.clip(crop.std(), 24, 40)) / 30


def _standard(values: Gray) -> Gray:
    """Return the values with mean 0 and standard deviation 1."""
    return np.asarray((values - values.mean()) / values.std())


def _smooth_line(n: int, sigma: float, rng: np.random.Generator) -> Gray:
    return _standard(ndimage.gaussian_filter1d(rng.standard_normal(n), sigma))


def _smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Gray:
    return _standard(ndimage.gaussian_filter(rng.standard_normal(shape), sigma))


def _curve(shape: tuple[int, ...], rng: np.random.Generator, length: float, curl: float) -> Gray:
    """Return (n, 2) points, half a pixel apart, of a smooth curve with its middle in the crop; `curl` in radians."""
    steps = round(2 * length)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(curl * _smooth_line(steps, 25, rng))
    points = 0.5 * np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    middle = rng.uniform(0.25, 0.75, size=2) * shape
    return np.asarray(points - points.mean(axis=0) + middle)


def _nearest(shape: tuple[int, ...], path: Gray) -> tuple[Gray, npt.NDArray[np.int64]]:
    """Return for every pixel the distance to the path in pixels and the number of the nearest point."""
    from scipy.spatial import cKDTree  # slow to import, and `scan` does not need it

    pixels = np.indices(shape).reshape(2, -1).T
    distance, point = cKDTree(path).query(pixels)
    return distance.reshape(shape), point.reshape(shape)


def _stroke(distance: Gray, width: Gray) -> Gray:
    """Return the anti-aliased cover of a line, from 1 on its axis to 0 half a pixel outside its edge."""
    return np.clip(width / 2 + 0.5 - distance, 0.0, 1.0) * np.minimum(width, 1.0)


def _taper(along: npt.NDArray[np.int64]) -> Gray:
    """Return 0 at both ends of a path and 1 from a quarter of its length inwards."""
    share = along / max(along.max(), 1)
    return np.asarray(np.minimum(1.0, 4 * np.minimum(share, 1 - share)))


def _blob(shape: tuple[int, ...], rng: np.random.Generator, share: float, roughness: float) -> npt.NDArray[np.bool_]:
    """Return one piece with an irregular outline that covers about `share` of the crop.

    A slanted elliptic hill plus smooth noise is cut at the height that leaves the share; the largest piece stays.
    """
    center = rng.uniform(0.1, 0.9, size=2) * shape
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.7)
    radius = np.sqrt(share * shape[0] * shape[1] / np.pi)
    y, x = (np.indices(shape) - center[:, None, None]) / radius
    long, short = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    hill = -np.hypot(long / np.sqrt(stretch), short * np.sqrt(stretch))
    height = hill + roughness * 0.5 * _smooth_field(shape, 0.35 * radius, rng)
    pieces, _ = ndimage.label(height >= np.quantile(height, 1 - share))
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(pieces == largest))


def _feather(inside: npt.NDArray[np.bool_], sigma: float) -> Gray:
    return np.asarray(ndimage.gaussian_filter(inside.astype(np.float64), sigma))


def _ramp(inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> Gray:
    """Return -1 to 1 across a piece in a random direction, and beyond that outside: the direction of light."""
    y, x = np.nonzero(inside)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(inside.shape)
    across = (rows - y.mean()) * np.sin(angle) + (columns - x.mean()) * np.cos(angle)
    return np.asarray(across / np.abs(across[inside]).max())


CROP_SIDE = 96
"""Side of a crop in pixels of the photograph. Crops do not depend on `images.load_size`: all configs see the same."""
BANDS = ((0, 150), (160, 352), (362, 512))
"""First row (or column) of a band, and the first after it; the 10 between two bands are unused."""
TRAIN_CROPS, TEST_CROPS, DEFECT_CROPS = 200, 60, 16
"""Nominal training crops, nominal test crops, and test crops of each defect type, per class."""
_STEPS = np.array([0.7548776662466927, 0.5698402909980532])
"""1/p and 1/p^2 for the plastic number p: multiples of them, modulo 1, fill the square evenly for every n
(Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018)."""


class Rectangle(NamedTuple):
    """A part of a photograph, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Regions(NamedTuple):
    """The sources of crops; all rectangles of one kind have the same size."""

    train: tuple[Rectangle, ...]
    test: tuple[Rectangle, ...]


def regions(name: str) -> Regions:
    """Return the training and test regions of a photograph for `dataset.options.regions`.

    `reporting`: the outer bands of rows, and the middle one. `selection`: the outer bands are divided into columns, the
    four corners for training and the two middles for testing; the middle band of rows is unused.
    """
    first, middle, last = BANDS
    every = (0, 512)
    if name == "reporting":
        return Regions(train=_grid((first, last), (every,)), test=_grid((middle,), (every,)))
    return Regions(train=_grid((first, last), (first, last)), test=_grid((first, last), (middle,)))


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return records of the wanted classes: nominal training crops, nominal test crops, then defects by type."""
    which = str(dataset.options.get("regions", info("textures").options["regions"].default))
    classes = wanted_classes(dataset, info("textures").classes or ())
    records = tuple(record for name in classes for record in _records(name, which))
    return DatasetScan(records=records, notes=_notes(which))


def corner(class_name: str, which: str, kind: str, index: int) -> tuple[int, int]:
    """Return the top row and left column of a crop in the photograph.

    Args:
        class_name: the photograph.
        which: `reporting` or `selection`.
        kind: `train`, `good` (nominal test crops), a defect's name, or another use of the test region.
        index: number of the crop within its kind; crop k does not depend on the number of crops.
    """
    parts = regions(which).train if kind == "train" else regions(which).test
    turn, part = divmod(index, len(parts))
    offset = _generator(class_name, which, kind).random(2)
    top, left, height, width = parts[part]
    down, right = (offset + turn * _STEPS) % 1 * (height - CROP_SIDE + 1, width - CROP_SIDE + 1)
    return top + int(down), left + int(right)


def foreign_corner(class_name: str, which: str, index: int) -> tuple[str, tuple[int, int]]:
    """Return the other class whose test region a foreign patch is cut from, and the corner of that crop."""
    others = [name for name in info("textures").classes or () if name != class_name]
    other = others[index % len(others)]
    return other, corner(other, which, f"foreign in {class_name}", index)


def _grid(rows: tuple[tuple[int, int], ...], columns: tuple[tuple[int, int], ...]) -> tuple[Rectangle, ...]:
    return tuple(Rectangle(top, left, bottom - top, right - left) for top, bottom in rows for left, right in columns)


def _records(class_name: str, which: str) -> list[Record]:
    counts = {"train": TRAIN_CROPS, "good": TEST_CROPS} | dict.fromkeys(DEFECT_DRAWINGS, DEFECT_CROPS)
    return [_record(class_name, which, kind, index) for kind, n in counts.items() for index in range(n)]


def _record(class_name: str, which: str, kind: str, index: int) -> Record:
    folder = "train/good" if kind == "train" else f"test/{kind}"
    return Record(
        path=f"{class_name}/{folder}/{index:03d}",
        class_name=class_name,
        is_test=kind != "train",
        is_anomalous=kind in DEFECT_DRAWINGS,
        defect=kind if kind in DEFECT_DRAWINGS else "",
        stamp=f"textures {DEFECTS_VERSION} {which}",
        load=partial(_load, class_name, which, kind, index),
    )


def _load(class_name: str, which: str, kind: str, index: int) -> DecodedImage:
    crop = _crop(class_name, corner(class_name, which, kind, index))
    if kind not in DEFECT_DRAWINGS:
        return DecodedImage(crop)
    foreign = _crop(*foreign_corner(class_name, which, index))
    return DecodedImage(*render_defect(kind, crop, foreign, _generator(class_name, which, kind, index)))


def _crop(class_name: str, at: tuple[int, int]) -> npt.NDArray[np.uint8]:
    top, left = at
    return photograph(class_name)[top : top + CROP_SIDE, left : left + CROP_SIDE].copy()


@cache
def photograph(class_name: str) -> npt.NDArray[np.uint8]:
    """Return the photograph of a class, (512, 512) uint8."""
    from skimage import data

    photo: npt.NDArray[np.uint8] = getattr(data, class_name)()
    photo.flags.writeable = False
    return photo


def _generator(*key: str | int) -> np.random.Generator:
    """Return a generator for a key: adding crops or defects does not change the draws of other keys."""
    digest = hashlib.sha256("/".join(map(str, ("textures", *key))).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))


def _apart(parts: tuple[Rectangle, ...]) -> int:
    """Return how many crops fit into the rectangles without sharing a pixel."""
    return sum((part.height // CROP_SIDE) * (part.width // CROP_SIDE) for part in parts)


def _notes(which: str) -> tuple[str, ...]:
    train, test = regions(which)
    tested = TEST_CROPS + DEFECT_CROPS * len(DEFECT_DRAWINGS)
    return (
        f"Every class is one photograph of 512x512 pixels. Its {tested} test images ({TEST_CROPS} nominal, "
        f"{DEFECT_CROPS} of each of {len(DEFECT_DRAWINGS)} defect types) are overlapping "
        f"{CROP_SIDE}x{CROP_SIDE} crops of "
        f"{_sizes(test)}, in which only {_apart(test)} non-overlapping crops exist. So test scores are not "
        "independent, and an interval over seeds does not cover other photographs.",
        f"Its {TRAIN_CROPS} training images are overlapping crops of {_sizes(train)} with {_apart(train)} "
        f"non-overlapping crops. At least {BANDS[1][0] - BANDS[0][1]} pixels separate training and test regions.",
        "Defects are rendered, their maps are exact. Foreign patches come from the other classes' test regions.",
    )


def _sizes(parts: tuple[Rectangle, ...]) -> str:
    return f"{len(parts)} region{'s'[: len(parts) - 1]} of {parts[0].height}x{parts[0].width} pixels"
