"""Folders that are a half of the data: `train` and `test` in any case, or under another name that plainly means one.

Such names are `training`, `tests`, `testing`, `train_data`, `Test Set` and the like. They count where nothing speaks
against it, since a class may have such a name, too; then they are refused. `val`, `valid` and `validation` name a half
that is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.text import choice_list
from fcdd_sweep.data.datasets.folder_roles import role_of
from fcdd_sweep.data.decoding.folders import Folder, named_twice

Half = Literal["train", "test", "validation"]
SPLITS: tuple[Half, Half] = ("train", "test")
_WORDS: dict[Half, str] = {
    "train": "train|training",
    "test": "test|tests|testing",
    "validation": "val|valid|validation",
}
_SPELLED = {
    half: re.compile(rf"(?:{words})(?:[ _-]?(?:data|images?|imgs?|set))?", re.IGNORECASE)
    for half, words in _WORDS.items()
}
_MEANING: dict[Half, str] = {"train": "training half", "test": "test half", "validation": "validation images"}
_MAPS = re.compile(r"\w+[ _-]maps", re.IGNORECASE)
_AS_CLASSES = "To read the folders as classes, set dataset.options.layout: classes"


def half_named(name: str) -> Half | None:
    """Return the half of the data that a folder's name means; None for any other name."""
    return next((half for half, pattern in _SPELLED.items() if pattern.fullmatch(name)), None)


def exact_halves(folder: Folder) -> dict[str, Folder]:
    """Return the folders `train` and `test` in a folder by name; the case does not matter."""
    found = {child.name.casefold(): child for child in folder.folders}
    return {name: found[name] for name in SPLITS if name in found}


def halves_of(folder: Folder) -> dict[str, Folder]:
    """Return the two halves in a folder by `train` and `test`, also under other names where these leave no doubt.

    They leave none where both halves are there, or one with normal or anomalous images and nothing beside it.
    """
    found, spelled = exact_halves(folder), {half: each[0] for half, each in _spelled(folder).items()}
    if len(found) + len(spelled) == 1 and any(_may_be_class(half, folder) for half in spelled.values()):
        return {}
    every = found | spelled
    return {name: every[name] for name in SPLITS if name in every}


def _spelled(folder: Folder) -> dict[str, list[Folder]]:
    """Return the folders under other names of the halves that have no folder `train` or `test`."""
    exact = exact_halves(folder)
    found: dict[str, list[Folder]] = {}
    for child in folder.folders:
        half = half_named(child.name)
        if half in SPLITS and half not in exact and not exact_halves(child):
            found.setdefault(half, []).append(child)
    return found


def _may_be_class(half: Folder, folder: Folder) -> bool:
    beside = (each for each in folder.folders if each.all_images and not half_named(each.name) and not _is_maps(each))
    has_parts = any(role_of(each) in ("normal", "anomalous") for each in half.below[1:])
    return bool(folder.images) or not has_parts or any(beside)


def _is_maps(folder: Folder) -> bool:
    return role_of(folder) == "maps" or _MAPS.fullmatch(folder.name) is not None


def halves_twice(folder: Folder, *, with_maps: bool) -> list[Problem]:
    """Return a problem for each two folders of one half, and of its maps if wanted, of which one would not be read."""
    known = {*SPLITS, *(f"{split}_maps" for split in SPLITS if with_maps)}
    pairs = named_twice(child for child in folder.folders if child.name.casefold() in known)
    problems = [
        Problem(
            str(second.path),
            f"{first.name} and {second.name} differ only in case, and one of them would not be read",
            next_step="Put their images into one folder",
        )
        for first, second in pairs
    ]
    halves = halves_of(folder)
    for half, (first, *others) in _spelled(folder).items():
        if others and half in halves:
            what = f"{first.name} and {others[0].name} both name the {half} half, and one of them would not be read"
            problems.append(Problem(str(others[0].path), what, next_step=f"Put their images into one folder {half}"))
    return problems


def halves_as_classes(base: Folder) -> list[Problem]:
    """Return a problem for each folder that would be read as a class and whose name means a half of the data."""
    children = [folder for folder in base.folders if folder.all_images]
    names = {folder.name.casefold() for folder in children}
    problems = []
    for folder in children:
        half = half_named(folder.name)
        if half and not exact_halves(folder) and not {"valid", "invalid"} <= names:
            what = f"its name means the {_MEANING[half]} of the data, and it would be read as a class"
            step = f"{_half_step(folder, half, children)}. If it is a class, give it another name. {_AS_CLASSES}"
            problems.append(Problem(str(folder.path), what, "train and test, or classes with other names", step))
    return problems


def _half_step(folder: Folder, half: Half, children: Iterable[Folder]) -> str:
    if half == "validation":
        return "Move it elsewhere; or rename it to test, beside train, to test on its images"
    beside = [each.name for each in children if each.path != folder.path and not half_named(each.name)]
    away = f", and move {choice_list(beside).replace(' or ', ' and ')} elsewhere" if beside else ""
    bad = "" if half == "train" else " and anomalous ones to test/bad"
    loose = f", with normal images moved to {half}/good{bad}" if folder.images else ""
    return f"If it is a half, rename it to {half}{loose}{away}"


def halved_below(folder: Folder) -> list[Folder]:
    """Return the folders below a folder that hold `train` or `test`."""
    return [each for each in folder.below[1:] if halves_of(each)]


def unused_validation_notes(base: Folder) -> Iterator[str]:
    """Yield a sentence for each folder of validation images beside a half `train` that has no test half."""
    for above in (base, *base.folders):
        if list(halves_of(above)) == ["train"]:
            for folder in above.folders:
                if half_named(folder.name) == "validation" and folder.all_images:
                    yield f"To test on the images in {folder.path.relative_to(base.path)}, rename it to test."
