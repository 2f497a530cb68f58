"""Which image a ground-truth map belongs to, by the habits of the field.

A map has its image's name, with or without `_mask`, `_GT` and the like and a number, and any ending: `7.png`,
`7_mask.bmp`, `7_GT_2.png`, `mask_7.png`. Or it is in a folder with the image's name: `7/000.png`. The folders that it
is in, other than those that say that they hold maps, are folders of its image, too. All maps of an image are united.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.names import normal_form
from fcdd_sweep.data.datasets.folder_halves import half_named
from fcdd_sweep.data.datasets.folder_roles import role_of, role_of_masked
from fcdd_sweep.data.datasets.map_names import bare_names, without_number
from fcdd_sweep.data.decoding.folders import Folder

CONTAINERS = frozenset({"data", "image", "images", "img", "imgs", "rgb"})
"""Folders whose name says nothing of the images in them."""
_SPLIT_OF_MAPS = re.compile(r"^(train|training|test|tests|testing)[ _-](\w+)$", re.IGNORECASE)


@dataclass(frozen=True)
class MappedImage:
    """An image that may have maps."""

    path: Path
    is_anomalous: bool


def holds_maps(folder: Folder) -> bool:
    """Return whether a folder's name says that it holds maps: `ground_truth`, `MASK`, `test_masks`."""
    split = _SPLIT_OF_MAPS.match(folder.name)
    return role_of(folder) == "maps" or (split is not None and role_of(Folder(Path(split[2]))) == "maps")


def maps_of_images(
    root: Path, images: Iterable[MappedImage], maps: Sequence[Path]
) -> tuple[dict[Path, tuple[Path, ...]], list[Problem]]:
    """Return the maps of each anomalous image, and a problem for each map without an image or with several.

    Maps of nominal images belong to an image, and are left out.
    """
    by_stem: dict[str, list[tuple[MappedImage, Counter[str]]]] = defaultdict(list)
    for image in images if maps else ():
        by_stem[normal_form(image.path.stem)].append((image, Counter(_words(root, image.path.parent))))
    found: dict[Path, tuple[Path, ...]] = {}
    problems = []
    for path in maps:
        owners = _owners(root, path, by_stem)
        anomalous = [image for image in owners if image.is_anomalous]
        if len(anomalous) == 1:
            found[anomalous[0].path] = (*found.get(anomalous[0].path, ()), path)
        elif not owners:
            step = "Give it the name of its image, or remove it"
            problems.append(Problem(str(path), "the map has no image", "an image with this name", step))
        elif anomalous:
            names = ", ".join(str(image.path.relative_to(root)) for image in anomalous[:3])
            what = f"it is not clear which image the map belongs to: {names}"
            step = "Put it into folders named like those of its image"
            problems.append(Problem(str(path), what, "one image with its name", step))
    return found, problems


def _owners(root: Path, path: Path, by_stem: dict[str, list[tuple[MappedImage, Counter[str]]]]) -> list[MappedImage]:
    """Return the images that a map may belong to: by its name, else without its ending, else by its folder."""
    stem, words = normal_form(path.stem), _words(root, path.parent)
    inside = normal_form(path.parent.name)
    for name, needed in (
        (stem, words),
        *((bare, words) for bare in (*bare_names(stem), without_number(stem))),
        (inside, words[:-1] if words and words[-1] == inside.casefold() else words),
    ):
        if owners := [image for image, have in by_stem.get(name, ()) if Counter(needed) <= have]:
            return owners
    return []


def _words(root: Path, folder: Path) -> list[str]:
    """Return the names of a file's folders, one word for each label, without those that say nothing."""
    words = list[str]()
    for part in folder.relative_to(root).parts:
        split, role = _SPLIT_OF_MAPS.match(part), role_of(Folder(Path(part)))
        if split is not None and holds_maps(Folder(Path(part))):
            words.append(half_named(split[1]) or "")
        elif role != "maps" and part.casefold() not in CONTAINERS:
            words.append(role or half_named(part) or normal_form(part).casefold())
        elif role_of_masked(Folder(Path(part))) == "normal":
            words.append("normal")
    return words
