"""Whether files are named like ground-truth maps of others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

MAP_BEGINNING = re.compile(r"^(anno|annotation|ground_?truth|gt|label|mask|seg)s?[ _.-]", re.IGNORECASE)
_MAP_ENDING = re.compile(r"[ _.-]?(anno|annotation|ground_?truth|gt|label|mask|seg)s?$", re.IGNORECASE)


def bare_names(stem: str) -> set[str]:
    """Return what names the image of a map may have."""
    return {_MAP_ENDING.sub("", stem), MAP_BEGINNING.sub("", stem)}


def bares_of(maps: Iterable[Path]) -> set[str]:
    return {bare for path in maps for bare in bare_names(path.stem)}


def stems_of(paths: Iterable[Path]) -> set[str]:
    return {path.stem for path in paths}


def is_map_of(stem: str, images: set[str]) -> bool:
    return not images.isdisjoint(bare_names(stem) - {"", stem})


def are_maps_of(maps: Sequence[Path], images: Iterable[Path]) -> bool:
    return not stems_of(images).isdisjoint(bares_of(maps))
