"""Crops of scikit-image's texture photographs, with rendered defects in the test split.

Each class is one grey photograph of 512x512 pixels. Its rows are cut into three bands: the outer two are for training,
the middle one for testing, so that a photograph's slow changes (perspective, light) are seen in training. See
docs/textures.md.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.defects import DEFECTS, VERSION, render
from fcdd_sweep.data.records import Picture, Record, Scan, wanted_classes
from fcdd_sweep.data.registry import info

SIDE = 96
"""Side of a crop in pixels of the photograph. Crops do not depend on `images.raw_size`: all configs see the same."""

BANDS = ((0, 150), (160, 352), (362, 512))
"""First row (or column) of a band, and the first after it; the 10 between two bands are used by nothing."""

TRAIN_CROPS, TEST_CROPS, DEFECT_CROPS = 200, 60, 16
"""Nominal training crops, nominal test crops, and test crops of each defect type, a class."""

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
    """Where crops come from; all rectangles of one kind have the same size."""

    train: tuple[Rectangle, ...]
    test: tuple[Rectangle, ...]


def regions(name: str) -> Regions:
    """Training and test regions of a photograph for `dataset.options.regions`.

    `reporting`: the outer bands of rows, and the middle one. `selection`: the outer bands are cut again, into columns:
    their four corners for training, the two middles for testing; the middle band of rows is left alone.
    """
    first, middle, last = BANDS
    every = (0, 512)
    if name == "reporting":
        return Regions(train=_grid((first, last), (every,)), test=_grid((middle,), (every,)))
    return Regions(train=_grid((first, last), (first, last)), test=_grid((first, last), (middle,)))


def scan(dataset: Dataset, images: Images) -> Scan:
    """Records of the wanted classes: nominal training crops, nominal test crops, then the defects type by type."""
    which = str(dataset.options.get("regions", info("textures").options["regions"].default))
    classes = wanted_classes(dataset, info("textures").classes or ())
    records = tuple(record for name in classes for record in _records(name, which))
    return Scan(records=records, notes=_notes(which))


def corner(class_name: str, which: str, kind: str, index: int) -> tuple[int, int]:
    """Top row and left column, in the photograph, of a crop.

    Args:
        class_name: the photograph.
        which: `reporting` or `selection`.
        kind: `train`, `good` (nominal test crops), a defect's name, or another use of the test region.
        index: number of the crop within its kind; crop k does not depend on how many there are.
    """
    parts = regions(which).train if kind == "train" else regions(which).test
    turn, part = divmod(index, len(parts))
    offset = _generator(class_name, which, kind).random(2)
    top, left, height, width = parts[part]
    down, right = (offset + turn * _STEPS) % 1 * (height - SIDE + 1, width - SIDE + 1)
    return top + int(down), left + int(right)


def foreign_corner(class_name: str, which: str, index: int) -> tuple[str, tuple[int, int]]:
    """The other class whose test region a foreign patch is cut from, and the corner of that crop there."""
    others = [name for name in info("textures").classes or () if name != class_name]
    other = others[index % len(others)]
    return other, corner(other, which, f"foreign in {class_name}", index)


def _grid(rows: tuple[tuple[int, int], ...], columns: tuple[tuple[int, int], ...]) -> tuple[Rectangle, ...]:
    return tuple(Rectangle(top, left, bottom - top, right - left) for top, bottom in rows for left, right in columns)


def _records(class_name: str, which: str) -> list[Record]:
    counts = {"train": TRAIN_CROPS, "good": TEST_CROPS} | dict.fromkeys(DEFECTS, DEFECT_CROPS)
    return [_record(class_name, which, kind, index) for kind, n in counts.items() for index in range(n)]


def _record(class_name: str, which: str, kind: str, index: int) -> Record:
    folder = "train/good" if kind == "train" else f"test/{kind}"
    return Record(
        path=f"{class_name}/{folder}/{index:03d}",
        class_name=class_name,
        is_test=kind != "train",
        is_anomalous=kind in DEFECTS,
        defect=kind if kind in DEFECTS else "",
        stamp=f"textures {VERSION} {which}",
        load=partial(_load, class_name, which, kind, index),
    )


def _load(class_name: str, which: str, kind: str, index: int) -> Picture:
    crop = _crop(class_name, corner(class_name, which, kind, index))
    if kind not in DEFECTS:
        return Picture(crop)
    foreign = _crop(*foreign_corner(class_name, which, index))
    return Picture(*render(kind, crop, foreign, _generator(class_name, which, kind, index)))


def _crop(class_name: str, at: tuple[int, int]) -> npt.NDArray[np.uint8]:
    top, left = at
    return photograph(class_name)[top : top + SIDE, left : left + SIDE].copy()


@cache
def photograph(class_name: str) -> npt.NDArray[np.uint8]:
    """The photograph of a class, (512, 512) uint8."""
    from skimage import data

    photo: npt.NDArray[np.uint8] = getattr(data, class_name)()
    photo.flags.writeable = False
    return photo


def _generator(*key: str | int) -> np.random.Generator:
    """A stream of its own for every key: adding crops or defects changes no other."""
    digest = hashlib.sha256("/".join(map(str, ("textures", *key))).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))


def _apart(parts: tuple[Rectangle, ...]) -> int:
    """How many crops fit into the rectangles without sharing a pixel."""
    return sum((part.height // SIDE) * (part.width // SIDE) for part in parts)


def _notes(which: str) -> tuple[str, ...]:
    train, test = regions(which)
    tested = TEST_CROPS + DEFECT_CROPS * len(DEFECTS)
    return (
        f"Every class is one photograph of 512x512 pixels. Its {tested} test images ({TEST_CROPS} nominal, "
        f"{DEFECT_CROPS} of each of {len(DEFECTS)} defect types) are overlapping {SIDE}x{SIDE} crops of "
        f"{_sizes(test)}, in which only {_apart(test)} non-overlapping crops exist. So test scores are not "
        "independent, and an interval over seeds says nothing of other photographs.",
        f"Its {TRAIN_CROPS} training images are overlapping crops of {_sizes(train)} with {_apart(train)} "
        f"non-overlapping crops. At least {BANDS[1][0] - BANDS[0][1]} pixels lie between training and test regions.",
        "Defects are rendered, their maps are exact. Foreign patches come from the other classes' test regions.",
    )


def _sizes(parts: tuple[Rectangle, ...]) -> str:
    return f"{len(parts)} region{'s'[: len(parts) - 1]} of {parts[0].height}x{parts[0].width} pixels"
