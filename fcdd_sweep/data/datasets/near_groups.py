"""Sides of images in a split of our own: nearly identical images are on one side, and no new image moves an old one.

Images are taken in the order of their files' times, then of their names. Each takes the side of its named group if that
has one, else of the earlier image that it equals, else of the nearest earlier one that it nearly equals (the same
picture saved again), else its own by `split_rule`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.audit import NEAR
from fcdd_sweep.data.datasets.split_rule import SplitRule
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.files import file_stamp
from fcdd_sweep.data.decoding.pixels import PLAIN
from fcdd_sweep.data.decoding.reading import open_image

MOST_COMPARED = 1_000
"""Images of a class from which on only identical ones are kept together: the others are decoded to be compared."""
MOST_NEAR = 4
"""Nearly identical images that stay together. Of a part that never moves under its camera all images are nearly
identical: without this bound, all would be on one side."""
_VERSION = 1
"""Raised by hand when other images are kept together."""
_FILE = "leaders.json"
_CELLS = 16
"""Cells along a side of an image whose means are compared."""
_DRAFT = 512
"""Side in pixels from which on a JPEG is decoded at a fraction of its size."""
_BLOCK = 1 << 16


class UnsplitImage(NamedTuple):
    """An image that folders or tables put on neither side.

    Attributes:
        path: its file.
        class_name: its class.
        name: what the rule splits by: the path below the folder of its class.
        group: of images that stay together, where a table names it.
        is_anomalous: whether it is anomalous in its class; it then follows a named group, and is a test image without.
    """

    path: Path
    class_name: str
    name: str
    group: str = ""
    is_anomalous: bool = False


def sides_of(images: Iterable[UnsplitImage], rule: SplitRule) -> dict[Path, bool]:
    """Return by file whether an image is a test image."""
    by_class: dict[str, list[UnsplitImage]] = defaultdict(list)
    for image in images:
        by_class[image.class_name].append(image)
    return {path: side for each in by_class.values() for path, side in _of_class(each, rule).items()}


def _of_class(images: Sequence[UnsplitImage], rule: SplitRule) -> dict[Path, bool]:
    stamps = {image.path: image.path.stat().st_mtime_ns for image in images}
    ordered = sorted(images, key=lambda image: (stamps[image.path], image.name))
    nominal = [image for image in ordered if not image.is_anomalous]
    sides, of_group = dict[Path, bool](), dict[str, bool]()
    for image, leader in zip(nominal, leaders([image.path for image in nominal]), strict=True):
        alone = rule.is_test(image.class_name, image.name, image.group) if leader is None else sides[leader]
        sides[image.path] = of_group.setdefault(_group_of(image, rule), alone)
    for image in ordered:
        if image.is_anomalous:
            grouped = rule.pattern is not None or bool(image.group)
            alone = not grouped or rule.is_test(image.class_name, image.name, image.group)
            sides[image.path] = of_group.get(_group_of(image, rule), alone) if grouped else True
    return sides


def _group_of(image: UnsplitImage, rule: SplitRule) -> str:
    return image.group or rule.group_of(image.name)


def leaders(files: Sequence[Path]) -> list[Path | None]:
    """Return for each file the earlier one whose side it takes, or None; found once per machine, kept in the cache.

    Args:
        files: in the order in which they came; all of one class.
    """
    if len(files) < 2:
        return [None] * len(files)
    key = digest([_VERSION, [[str(path), file_stamp(path)] for path in files]])

    def build(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(_found_leaders(files)), encoding="utf-8")

    entry = cached(cache_root(), f"near-{key}", 64 * len(files), build)
    found = json.loads((entry / _FILE).read_text(encoding="utf-8"))
    return [None if number is None else files[number] for number in found]


def _found_leaders(files: Sequence[Path]) -> list[int | None]:
    same = _identical(files)
    cells = _thumbnails(files) if len(files) <= MOST_COMPARED else None
    found: list[int | None] = []
    firsts, followers = list[int](), dict[int, int]()
    for number in range(len(files)):
        leader = same.get(number)
        if leader is None and cells is not None:
            free = [first for first in firsts if followers[first] < MOST_NEAR - 1]
            leader = _nearest(cells, number, free)
            if leader is not None:
                followers[leader] += 1
        if leader is None:
            firsts.append(number)
            followers[number] = 0
        found.append(leader)
    return found


def _nearest(cells: npt.NDArray[np.float32], number: int, firsts: Sequence[int]) -> int | None:
    if not firsts or np.isnan(cells[number, 0]):
        return None
    differences = np.abs(cells[firsts] - cells[number]).max(1)
    differences[np.isnan(differences)] = np.inf
    return firsts[int(differences.argmin())] if differences.min() <= NEAR else None


def _identical(files: Sequence[Path]) -> dict[int, int]:
    """Return by number of a file that of the first one with the same bytes; only files of one size are read."""
    groups: list[list[int]] = [list(range(len(files)))]
    for key in (_size, _middle, _content):
        parts: dict[tuple[int, object], list[int]] = defaultdict(list)
        for place, group in enumerate(groups):
            for number in group:
                parts[place, key(files[number])].append(number)
        groups = [part for part in parts.values() if len(part) > 1]
    return {number: group[0] for group in groups for number in group[1:]}


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> bytes | Path:
    try:
        with path.open("rb") as file:
            file.seek(path.stat().st_size // 2)
            return file.read(_BLOCK)
    except OSError:  # decoding reports it; it equals no other
        return path


def _content(path: Path) -> bytes | Path:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return path


def _thumbnails(files: Sequence[Path]) -> npt.NDArray[np.float32]:
    """Return (n, cells) the means of each image's cells in gray levels; NaN for one that cannot be compared."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return np.stack(list(threads.map(_thumbnail, files)))


def _thumbnail(path: Path) -> npt.NDArray[np.float32]:
    try:
        with open_image(path, path, PLAIN.max_megapixels) as file:
            file.draft("L", (_DRAFT, _DRAFT))
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I;16"):
            image = Image.fromarray(np.asarray(image, np.float32) / 257)
        elif image.mode.startswith(("I", "F")):
            raise ValueError("no range of values is known")
        else:
            image = image.convert("RGB").convert("L").convert("F")
        return np.asarray(image.resize((_CELLS, _CELLS), Image.Resampling.BILINEAR), np.float32).ravel()
    except Exception:  # Pillow's readers raise many types; decoding reports what is damaged
        return np.full(_CELLS * _CELLS, np.nan, np.float32)
