"""Whether files are named like ground-truth maps of others by the habits of the field: `7_mask`, `7_GT_2`, `mask_7`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_WORD = r"(?:anno|annotation|ground_?truth|gt|label|mask|seg)s?"
_NUMBER = r"(?<=\d)[ _-]\d+$"
_BEGINNING = re.compile(rf"^{_WORD}[ _.-]", re.IGNORECASE)
_ENDING = re.compile(rf"[ _.-]?{_WORD}(?:[ _.-]?\d+)?$", re.IGNORECASE)
_ENDING_OR_NUMBER = re.compile(rf"{_ENDING.pattern}|{_NUMBER}", re.IGNORECASE)


def bare_names(stem: str) -> tuple[str, ...]:
    """Return what other names the image of a map may have, the likeliest first; none for a name like an image's."""
    rest = _BEGINNING.sub("", stem)
    names = (_ENDING.sub("", stem), rest, stem if rest == stem else _ENDING_OR_NUMBER.sub("", rest))
    return tuple(name for name in dict.fromkeys(names) if name not in ("", stem))


def without_number(stem: str) -> str:
    """Return the name of the image of `7_2`, one of several maps; only a folder of maps has files named so."""
    return re.sub(_NUMBER, "", stem)


def bares_of(maps: Iterable[Path]) -> set[str]:
    """Return all names that the images of maps may have, their own among them."""
    return {bare for path in maps for bare in (path.stem, *bare_names(path.stem))}


def stems_of(paths: Iterable[Path]) -> set[str]:
    return {path.stem for path in paths}


def is_map_of(stem: str, images: set[str]) -> bool:
    """Return whether a file is named like a map of one of the others in its folder."""
    return not images.isdisjoint(bare_names(stem))


def are_maps_of(maps: Sequence[Path], images: Iterable[Path]) -> bool:
    """Return whether a folder's file is named like one of these images, or like a map of it."""
    return not stems_of(images).isdisjoint(bares_of(maps))
