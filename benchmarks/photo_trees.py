"""Eleven trees of real photographs, written in the layouts that `folder` reads, without a download.

Every image of a tree is a draw of one process: a part of a photograph, turned, shifted and lit anew. Training and test
images are draws of the same process, so that a false-alarm rate may be checked; they overlap in the photograph, so that
an AUROC says how two settings compare on it, not how either does on other parts. Defects are of `rendered_defects`.

Trees of `SELECTION` are for choosing settings, the others for the proof. No photograph is in two trees, or in the data
set `textures`.

    python benchmarks/photo_trees.py FOLDER [--sheet SHEET.png]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from rendered_defects import EXTENT, KINDS, Pixels, Spot, draw_defect

SIDE = 192
"""Side of every image in pixels."""
_BEYOND = 200
TEST_NOMINAL = 60
EACH_DEFECT = 8
"""Test images, nominal besides the twins, and of each kind and size of defect."""

TWIN = "twin_of_"
"""Before the name of an image with a defect: the name of its twin."""


class Part(NamedTuple):
    """A square of a photograph: its middle and its side, in pixels."""

    row: float
    column: float
    side: float


@dataclass(frozen=True)
class Tree:
    """A tree of images of one kind of part.

    Attributes:
        photograph: returns it, (H, W, 3) uint8.
        parts: the squares that images show, one drawn for each image.
        layout: how it is written, one of `LAYOUTS`.
        nominal: number of nominal training images.
        angle: most degrees by which an image is turned.
        shift: most pixels of the photograph by which it is shifted.
        light: most by which brightness is scaled.
        reach: radius within which defects are drawn, as a share of the side.
    """

    photograph: Callable[[], Pixels]
    parts: Callable[[], list[Part]]
    layout: str
    nominal: int
    angle: float = 4.0
    shift: float = 6.0
    light: float = 0.08
    reach: float = 0.33


def _skimage(name: str) -> Callable[[], Pixels]:
    def load() -> Pixels:
        from skimage import data

        photo = getattr(data, name)()
        return np.repeat(photo[:, :, None], 3, axis=2) if photo.ndim == 2 else photo[:, :, :3]

    return cache(load)


def _sklearn(name: str) -> Callable[[], Pixels]:
    def load() -> Pixels:
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image(name))

    return cache(load)


@cache
def _motorcycle() -> Pixels:
    from skimage import data

    return np.asarray(data.stereo_motorcycle()[0])


@cache
def _coins() -> list[Part]:
    """Return the squares around the 24 coins: markers at the darkest and brightest gray levels, then watershed."""
    from scipy import ndimage
    from skimage import data, filters, measure, segmentation

    photo = data.coins()
    markers = np.where(photo < 30, 1, np.where(photo > 150, 2, 0))
    found = segmentation.watershed(filters.sobel(photo), markers) == 2
    regions = measure.regionprops(ndimage.label(ndimage.binary_fill_holes(found))[0])
    coins = [region for region in regions if region.area > 500]
    return [Part(*coin.centroid, 1.25 * coin.equivalent_diameter_area) for coin in coins]


def _field(top: int, left: int, height: int, width: int, side: int) -> Callable[[], list[Part]]:
    """Return squares with their middles on a grid over a rectangle, an eighth of a side apart."""
    rows = np.arange(top + side / 2, top + height - side / 2 + 1, side / 8)
    columns = np.arange(left + side / 2, left + width - side / 2 + 1, side / 8)
    return lambda: [Part(float(row), float(column), side) for row in rows for column in columns]


def _one(row: float, column: float, side: float) -> Callable[[], list[Part]]:
    return lambda: [Part(row, column, side)]


TREES = {
    "cups": Tree(_skimage("coffee"), _one(195, 305, 310), "mvtec", nominal=40),
    "retina": Tree(_skimage("retina"), _field(420, 420, 640, 640, 240), "good_bad", nominal=60, angle=180, reach=0.4),
    "coins": Tree(_skimage("coins"), _coins, "mvtec", nominal=24, angle=180, shift=1.5, light=0.15),
    "cat": Tree(_skimage("chelsea"), _one(140, 225, 250), "good_bad", nominal=50, angle=12, shift=8),
    "rocket": Tree(_skimage("rocket"), _one(200, 320, 300), "good_bad", nominal=80, shift=8),
    "astronaut": Tree(_skimage("astronaut"), _one(200, 260, 330), "good_bad", nominal=120, shift=10),
    "dahlia": Tree(_sklearn("flower.jpg"), _one(210, 310, 310), "good_bad", nominal=50, angle=15, shift=8),
    "pagoda": Tree(_sklearn("china.jpg"), _one(185, 205, 250), "flat", nominal=80),
    "motorcycle": Tree(_motorcycle, _one(250, 390, 300), "table", nominal=120, shift=10),
    "tissue": Tree(_skimage("immunohistochemistry"), _field(0, 0, 512, 512, 150), "labels", nominal=200, angle=180,
                   reach=0.4),
    "clock": Tree(_skimage("clock"), _one(157, 216, 190), "mvtec", nominal=24),
}  # fmt: skip
SELECTION = ("cups", "retina", "coins", "cat", "rocket", "astronaut")
PROOF = tuple(name for name in TREES if name not in SELECTION)


class Drawn(NamedTuple):
    """An image of a tree.

    Attributes:
        name: without ending.
        is_test: whether it is a test image.
        defect: such as `scratch_small`; empty for a nominal image.
        image: (S, S, 3) uint8.
        mask: (S, S) bool; None for a nominal image.
    """

    name: str
    is_test: bool
    defect: str
    image: Pixels
    mask: npt.NDArray[np.bool_] | None = None


def drawn_images(name: str, seed: int = 0, *, twins: bool = False) -> Iterator[Drawn]:
    """Yield the images of a tree: nominal training images, nominal test images, defects, each after its twin if wanted.

    Each has a generator of its own, so that other counts leave it as it is.
    """
    tree = TREES[name]
    for number in range(tree.nominal + TEST_NOMINAL):
        is_test = number >= tree.nominal
        yield Drawn(f"n{number:03d}", is_test, "", _view(tree, _generator(name, seed, "nominal", number)))
    for kind in KINDS:
        for size in EXTENT:
            for number in range(EACH_DEFECT):
                rng = _generator(name, seed, kind, size, number)
                view = _view(tree, rng)
                image, mask = draw_defect(kind, size, view, lambda rng=rng: _spot(tree, rng), rng)
                file = f"{kind}_{size}_{number}"
                if twins:
                    yield Drawn(f"{TWIN}{file}", is_test=True, defect="", image=view)
                yield Drawn(file, is_test=True, defect=f"{kind}_{size}", image=image, mask=mask)


def _view(tree: Tree, rng: np.random.Generator) -> Pixels:
    """Return an image of one of the tree's parts: turned, shifted, in another light, with the noise of a sensor."""
    parts = tree.parts()
    part = parts[rng.integers(len(parts))]
    angle, zoom = math.radians(rng.uniform(-tree.angle, tree.angle)), part.side / SIDE * rng.uniform(0.97, 1.03)
    row, column = np.array([part.row, part.column]) + rng.uniform(-tree.shift, tree.shift, 2)
    across, along = zoom * math.cos(angle), zoom * math.sin(angle)
    half = SIDE / 2
    affine = (across, -along, column - half * (across - along), along, across, row - half * (along + across))
    moved = (*affine[:2], affine[2] + _BEYOND, *affine[3:5], affine[5] + _BEYOND)
    turned = _widened(tree.photograph).transform((SIDE, SIDE), Image.Transform.AFFINE, moved, Image.Resampling.BICUBIC)
    light = rng.uniform(1 - tree.light, 1 + tree.light) * rng.uniform(0.98, 1.02, 3)
    slope = 1 + rng.uniform(-tree.light, tree.light) * np.linspace(-0.5, 0.5, SIDE)[:, None, None]
    lit = np.asarray(turned, dtype=np.float64) * light * slope + rng.normal(0, 2.0, (SIDE, SIDE, 3))
    return np.rint(np.clip(lit, 0, 255)).astype(np.uint8)


@cache
def _widened(photograph: Callable[[], Pixels]) -> Image.Image:
    """Return a photograph with `_BEYOND` reflected pixels around it, for squares that reach over its edge."""
    return Image.fromarray(np.pad(photograph(), ((_BEYOND,) * 2, (_BEYOND,) * 2, (0, 0)), mode="reflect"))


def _spot(tree: Tree, rng: np.random.Generator) -> Spot:
    radius, angle = tree.reach * SIDE * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
    return SIDE / 2 + radius * math.sin(angle), SIDE / 2 + radius * math.cos(angle)


def _generator(*key: str | int) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def write_tree(name: str, folder: Path, seed: int = 0, *, twins: bool = False) -> Path:
    """Write a tree below `folder` unless it is there, and return its `dataset.root`.

    Of a flat tree the root has nominal training images alone; `labelled_root` is the folder of its test images.
    """
    root = folder / name
    done = folder / f"{name}.done"
    if not done.exists():
        rows = [_written(root, TREES[name].layout, drawn) for drawn in drawn_images(name, seed, twins=twins)]
        if TREES[name].layout == "table":
            with (root / "images.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([("path", "label", "split", "mask"), *rows])
        done.touch()
    return root / "images.csv" if TREES[name].layout == "table" else root


def labelled_root(name: str, folder: Path) -> Path:
    """Return the folder with the labelled test images of a flat tree."""
    return folder / f"{name}_labelled"


def _written(root: Path, layout: str, drawn: Drawn) -> tuple[str, str, str, str]:
    """Write an image and its map, and return its row of a table: path, label, split, mask."""
    split, defect, file = ("test" if drawn.is_test else "train"), drawn.defect, f"{drawn.name}.png"
    place, mask = {
        "mvtec": (root / split / (defect or "good"), root / "ground_truth" / defect / f"{drawn.name}_mask.png"),
        "good_bad": (root / split / ("bad" if defect else "good") / defect, None),
        "labels": (
            root / split / ("anomalous" if defect else "normal") / defect,
            root / "test_maps" / "anomalous" / defect / file,
        ),
        "table": (root / "images", root / "masks" / file),
        "flat": (
            root.with_name(f"{root.name}_labelled") / ("bad" if defect else "good") / defect if drawn.is_test else root,
            None,
        ),
    }[layout]
    _save(place / file, drawn.image)
    if drawn.mask is not None and mask is not None:
        _save(mask, drawn.mask.astype(np.uint8) * 255)
    mask_path = mask.relative_to(root).as_posix() if defect and mask is not None else ""
    return f"images/{file}", defect or "good", split, mask_path


def _save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_sheet(path: Path) -> None:
    """Draw a row of each tree: three nominal images, then one of each defect."""
    rows = []
    for name in TREES:
        images = list(drawn_images(name))
        nominal = [each for each in images if not each.defect][:3]
        defects = [each for each in images if each.name.endswith("_0")]
        rows.append(np.concatenate([each.image for each in [*nominal, *defects]], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    for name in TREES:
        print(f"{name:11} {TREES[name].layout:9} {write_tree(name, options.folder)}")
    if options.sheet:
        draw_sheet(options.sheet)


if __name__ == "__main__":
    main()
